import { closedLoop } from '../loop.ts';
import { peerOf, problemOf, type Row } from '../row.ts';
import { promptWith } from '../words.ts';

const concurrency = 4;

export const m3: Row = {
  id: 'M3',
  what: `one-shot queries in a second at concurrency ${concurrency}`,
  how: 'a closed loop; right answers in a window are counted, after a fifth of it that is not',
  unit: '1/s',
  sides: ['sallyport', 'naive'],
  goal: { of: 'sallyport', to: 'naive', atLeast: 7 },
  rounds: 3,
  seconds: 10,
  measure: (stage, side, round) =>
    closedLoop({
      concurrency,
      seconds: round.seconds,
      async ask(number) {
        const word = round.word(number);
        return problemOf(await peerOf(stage, side).query(promptWith(word)), [word]);
      },
    }),
};
