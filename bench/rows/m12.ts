import { haveConversations } from '../conversations.ts';
import { cpuBelowMs, cpuMs } from '../cpu.ts';
import { firstOf, medianOf, NoFigure, problemOf, quantileOfAll, type Row } from '../row.ts';
import { median } from '../statistics.ts';
import { promptWith } from '../words.ts';

const queries = 5;
const turns = 15;
const sides = { of: 'jailed', to: 'open', atMost: 1.1 } as const;

export const m12: Row = {
  id: 'M12',
  what: 'the service with a jail against the service without: time to first text, and CPU',
  how: `${queries} one-shot queries (p50), then a conversation of ${turns} turns after its first (turn); cpu is that of the service and of Claude Code from the start of the conversation to its last turn`,
  unit: 'ms',
  sides: ['jailed', 'open'],
  goal: [
    { ...sides, figure: quantileOfAll(0.5, 'ms') },
    { ...sides, figure: medianOf('turn', 'ms') },
    { ...sides, figure: medianOf('cpu', 'ms') },
  ],
  rounds: 7,
  seconds: 0,
  async measure(stage, side, round) {
    if (!stage.jailed) throw new NoFigure('there is no jail on this machine');
    const open = () => stage.once('open', () => stage.startService('open', { SALLYPORT_ISOLATION: 'none' }));
    const { peer, pid } = side === 'open' ? await open() : { peer: stage.sallyport, pid: stage.service.pid };
    const [raw, problems]: [number[], (string | null)[]] = [[], []];
    for (let number = 0; number < queries; number += 1) {
      const word = round.word(number);
      const answer = await peer.query(promptWith(word));
      problems.push(problemOf(answer, [word]));
      if (answer.firstTextMs !== null) raw.push(answer.firstTextMs);
    }
    const taken = () => cpuMs(pid) + cpuBelowMs(pid);
    const before = taken();
    let cpu = 0;
    const conversation = await haveConversations({
      peer,
      round: { ...round, word: (number) => round.word(queries + number) },
      count: 1,
      turns,
      // Before its process has gone, with what it took.
      beforeEnd: () => void (cpu = taken() - before),
    });
    const wrong = problems.filter((problem) => problem !== null).length + conversation.wrong;
    const right = queries + turns + 1 - wrong;
    const more = { turn: conversation.value ?? 0, cpu };
    const all = firstOf([...problems, ...conversation.problems]);
    return { value: wrong === 0 ? median(raw) : null, right, wrong, problems: all, raw, more };
  },
};
