import { median } from '../statistics.ts';
import { firstOf, peerOf, problemOf, type Row } from '../row.ts';
import { promptWith } from '../words.ts';

const turns = 20;

export const m5: Row = {
  id: 'M5',
  what: 'next turn of a conversation: time to first text',
  how: `a conversation of ${turns} turns, each answered with the words of all before it; the median of all but the first turn is the figure of a round`,
  unit: 'ms',
  sides: ['sallyport', 'naive'],
  goal: { of: 'naive', to: 'sallyport', atLeast: 12 },
  rounds: 3,
  seconds: 0,
  async measure(stage, side, round) {
    const [raw, words, problems]: [number[], string[], (string | null)[]] = [[], [], []];
    let session: string | null = null;
    for (let number = 0; number < turns; number += 1) {
      words.push(round.word(number));
      const answer = await peerOf(stage, side).converse(promptWith(words.at(-1) ?? ''), session);
      session = answer.session;
      problems.push(problemOf(answer, words));
      if (number > 0 && answer.firstTextMs !== null) raw.push(answer.firstTextMs);
      // What comes after a wrong answer is wrong too.
      if (problems.at(-1) !== null) break;
    }
    const right = problems.filter((problem) => problem === null).length;
    const value = right === turns ? median(raw) : null;
    return { value, right, wrong: turns - right, problems: firstOf(problems), raw };
  },
};
