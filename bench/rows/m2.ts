import { setTimeout as delay } from 'node:timers/promises';
import { median } from '../statistics.ts';
import { firstOf, peerOf, problemOf, type Row } from '../row.ts';
import { promptWith } from '../words.ts';

const queries = 5;
/** Before each query: what one leaves to do, on either side, is not taken for the beginning of the next. */
const pauseMs = 100;

export const m2: Row = {
  id: 'M2',
  what: 'one-shot query of a repeated profile: time to first text',
  how: `the median of ${queries} queries, one after the other, each ${pauseMs} ms after the end of the last, is the figure of a round`,
  unit: 'ms',
  sides: ['sallyport', 'naive'],
  goal: { of: 'sallyport', to: 'naive', atMost: 0.12 },
  rounds: 7,
  seconds: 0,
  async measure(stage, side, round) {
    const [raw, problems]: [number[], (string | null)[]] = [[], []];
    for (let number = 0; number < queries; number += 1) {
      const word = round.word(number);
      await delay(pauseMs);
      const answer = await peerOf(stage, side).query(promptWith(word));
      const problem = problemOf(answer, [word]);
      problems.push(problem);
      if (problem === null && answer.firstTextMs !== null) raw.push(answer.firstTextMs);
    }
    const wrong = queries - raw.length;
    return { value: wrong === 0 ? median(raw) : null, right: raw.length, wrong, problems: firstOf(problems), raw };
  },
};
