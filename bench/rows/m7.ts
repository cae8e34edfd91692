import { setTimeout as delay } from 'node:timers/promises';
import { cpuMs } from '../cpu.ts';
import { livePeer, type Peer } from '../peers.ts';
import { pieceChars, readRecital, recitalPrompt } from '../recital.ts';
import { firstOf, type Row, type Sample } from '../row.ts';
import type { Stage } from '../stage.ts';

/** After the last byte of an answer: what it leaves to do belongs to it. */
const settleMs = 300;

/** The minimal pipe and its process. */
async function pipe(stage: Stage): Promise<{ peer: Peer; pid: number }> {
  return await stage.once('pipe', async () => {
    const child = await stage.start('pipe', 'bench/pipe/main.ts', { env: stage.bare });
    return { peer: livePeer(child.url, 'events'), pid: child.pid };
  });
}

/** Starts conversations, two at a time, which is as fast as it gets on two cores. */
async function startAll(peer: Pick<Peer, 'converse'>, count: number): Promise<string[]> {
  const sessions: string[] = [];
  let left = count;
  const start = async () => {
    while (left > 0) {
      left -= 1;
      const { session, problem } = await peer.converse('Are you ready?', null);
      if (problem !== null) throw new Error(`a conversation did not start: ${problem}`);
      sessions.push(session);
    }
  };
  await Promise.all([start(), start()]);
  return sessions;
}

interface Relay {
  readonly peer: Pick<Peer, 'converse' | 'end'>;
  /** Milliseconds of a core that were taken so far by what is measured. */
  readonly cpu: () => number;
  readonly streams: number;
  /** Of each stream: how many deltas, and how many of them in a second. */
  readonly pieces: number;
  readonly rate: number;
  word(number: number): string;
}

/** What was taken when so many deltas had come. */
interface Mark {
  readonly ms: number;
  readonly deltas: number;
}

/** Looks at what is taken while all streams run: from when each has said something until one has said all. */
class Together {
  readonly #relay: Relay;
  readonly #chars: number[];
  from: Mark | null = null;
  to: Mark | null = null;

  constructor(relay: Relay) {
    this.#relay = relay;
    this.#chars = Array.from({ length: relay.streams }, () => 0);
  }

  piece(number: number, text: string): void {
    const all = this.#relay.pieces * pieceChars;
    const chars = (this.#chars[number]! += text.length);
    if (this.from === null && this.#chars.every((said) => said > 0)) this.from = this.#mark();
    else if (this.from !== null && this.to === null && chars === all) this.to = this.#mark();
  }

  #mark(): Mark {
    const chars = this.#chars.reduce((sum, said) => sum + said, 0);
    return { ms: this.#relay.cpu(), deltas: chars / pieceChars };
  }
}

/**
 * The milliseconds of a core that it takes to relay a thousand deltas: while all streams run, where the peer gives the
 * text as it comes, else from the sending of the prompts on. What whole turns take for a thousand is `turns` of `more`.
 */
export async function relay(relayed: Relay): Promise<Sample> {
  const { peer, cpu, streams, pieces, rate, word } = relayed;
  const sessions = await startAll(peer, streams);
  await delay(settleMs);
  const together = new Together(relayed);
  const before = cpu();
  const answers = await Promise.all(
    sessions.map((session, number) =>
      peer.converse(recitalPrompt(word(number), pieces, rate), session, (text) => together.piece(number, text)),
    ),
  );
  await delay(settleMs);
  const taken = cpu() - before;
  await Promise.all(sessions.map((session) => peer.end(session)));
  const problems = answers.map(
    ({ problem, text }, number) => problem ?? readRecital(text, word(number), pieces).problem,
  );
  const wrong = problems.filter((problem) => problem !== null).length;
  const turns = (taken * 1000) / (streams * pieces);
  const { from, to } = together;
  const relaying = from && to && ((to.ms - from.ms) * 1000) / (to.deltas - from.deltas);
  return {
    value: wrong === 0 ? (relaying ?? turns) : null,
    right: streams - wrong,
    wrong,
    problems: firstOf(problems),
    raw: [taken, streams * pieces],
    more: { turns },
    ...(relaying === null ? {} : { note: `${turns.toFixed(0)} ms with what the turns took besides` }),
  };
}

const rowOf = (id: string, streams: number, rate: number): Row => ({
  id,
  what: `CPU of the server for 1000 relayed deltas, ${streams} ${streams === 1 ? 'stream' : 'streams'}, against a minimal pipe`,
  how: `live conversations on both sides, each told ${rate} deltas a second, while all of them run; threads of the server alone, by the system's own count; the pipe has no broker, jail, log or keys, and the service makes no spares meanwhile`,
  unit: 'ms',
  sides: ['sallyport', 'pipe'],
  goal: { of: 'sallyport', to: 'pipe', atMost: 1.5 },
  stage: { upstream: 'bench/reciter.ts', settings: { SALLYPORT_MAX_PROCESSES: '24', SALLYPORT_SPARES: '0' } },
  rounds: 5,
  seconds: 10,
  async measure(stage, side, { seconds, word }) {
    const ours = { peer: stage.sallyport, pid: stage.service.pid };
    const { peer, pid } = side === 'pipe' ? await pipe(stage) : ours;
    return await relay({ peer, cpu: () => cpuMs(pid), streams, pieces: Math.round(rate * seconds), rate, word });
  },
});

export const m7 = rowOf('M7', 1, 200);
export const m7Many = rowOf('M7-streams', 20, 40);
