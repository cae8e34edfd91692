import { setTimeout as delay } from 'node:timers/promises';
import { sendForJson } from '../client.ts';
import { cpuMs } from '../cpu.ts';
import type { Answer } from '../peers.ts';
import { pieceChars, readRecital, recitalPrompt, sharedMicros } from '../recital.ts';
import { firstOf, quantileOfAll, type Row, type Round } from '../row.ts';
import type { Stage } from '../stage.ts';
import { quantile } from '../statistics.ts';
import { openingOf, watchersOf, type Opening, type Seen } from '../watchers.ts';

const watchers = 1000;
const rate = 10;
const settleMs = 500;

/** What all who watched a recital say of it: one problem for each who was not told it right. */
function problemsOf({ count, late, texts }: Seen, wanted: number, word: string, pieces: number): string[] {
  const found = texts.flatMap((text) => readRecital(text, word, pieces).problem ?? []);
  if (late > 0 || count !== wanted) found.push(`${wanted - count} of ${wanted} watchers were not told the end`);
  return found;
}

interface Turn {
  readonly stage: Stage;
  readonly count: number;
  readonly word: string;
  readonly pieces: number;
  /** When a piece has come, in shared microseconds. */
  readonly arrived?: (at: number) => void;
}

interface Watched {
  /** That the server took from the sending of the prompt on. */
  readonly cpuMs: number;
  /** The answer, as whoever ran the turn has it. */
  readonly text: string;
  readonly problems: readonly string[];
}

/** A recital that so many watch, on either side: `say` resolves when it is over, after so many ends of turns. */
async function watched(
  { stage, count, word, pieces }: Turn,
  opening: Omit<Opening, 'count'>,
  how: { pid: number; ends: number; say: () => Promise<Pick<Answer, 'text' | 'problem'>> },
): Promise<Watched> {
  const all = await watchersOf(stage);
  if (count > 0) await all.open({ ...opening, count });
  await delay(settleMs);
  const before = cpuMs(how.pid);
  const { text, problem } = await how.say();
  await delay(settleMs);
  const taken = cpuMs(how.pid) - before;
  const seen = await all.collect(how.ends);
  await all.close();
  const problems = count > 0 ? problemsOf(seen, count, word, pieces) : [];
  return { cpuMs: taken, text, problems: problem === null ? problems : [problem, ...problems] };
}

/** A turn of a new conversation of the service. */
export async function watchedTurn(turn: Turn): Promise<Watched> {
  const { stage, word, pieces, arrived } = turn;
  const { session, problem } = await stage.sallyport.converse('Are you ready?', null);
  if (problem !== null) throw new Error(`a conversation did not start: ${problem}`);
  let chars = 0;
  const piece = (text: string) => {
    const [before, at] = [chars, sharedMicros()];
    chars += text.length;
    // One piece of the text may hold the ends of several of the recital.
    for (let ended = Math.floor(before / pieceChars); ended < Math.floor(chars / pieceChars); ended += 1) arrived?.(at);
  };
  const say = async () => {
    const answer = await stage.sallyport.converse(recitalPrompt(word, pieces, rate), session, piece);
    return { ...answer, problem: answer.problem ?? readRecital(answer.text, word, pieces).problem };
  };
  const found = await watched(turn, openingOf(stage, 'stream', session), { pid: stage.service.pid, ends: 2, say });
  await stage.sallyport.end(session);
  return found;
}

/** The same by a bare server. */
async function watchedBare(turn: Turn): Promise<Watched> {
  const { stage, word, pieces } = turn;
  const { url, pid } = await stage.once('bare', () => stage.start('bare', 'bench/bare/main.ts', { env: {} }));
  const say = async () => {
    const { status } = await sendForJson({ url, method: 'POST', body: { word, pieces, rate } });
    return { text: '', problem: status === 200 ? null : `status ${status}` };
  };
  return await watched(turn, { kind: 'stream', url, headers: {} }, { pid, ends: 1, say });
}

/** No spares: one that is made meanwhile takes a core for a second. */
const stage = { upstream: 'bench/reciter.ts', settings: { SALLYPORT_SPARES: '0' } } as const;

export const m8: Row = {
  id: 'M8',
  what: `CPU of the server for an event and a watcher, ${watchers} watchers of one conversation, against a bare server`,
  how: `what a turn of ${rate} events a second takes with that many SSE followers less what it takes with none; the bare server writes one shared buffer to each socket`,
  unit: 'µs',
  sides: ['sallyport', 'bare'],
  goal: { of: 'sallyport', to: 'bare', atMost: 1.3 },
  stage,
  rounds: 5,
  seconds: 10,
  async measure(staged, side, { seconds, word }) {
    const run = side === 'bare' ? watchedBare : watchedTurn;
    const pieces = Math.round(rate * seconds);
    const alone = await run({ stage: staged, count: 0, word: word(0), pieces });
    const many = await run({ stage: staged, count: watchers, word: word(1), pieces });
    const problems = [...alone.problems, ...many.problems];
    const value = ((many.cpuMs - alone.cpuMs) * 1000) / (pieces * watchers);
    const wrong = problems.length;
    const raw = [many.cpuMs, alone.cpuMs];
    return { value: wrong === 0 ? value : null, right: watchers + 1 - wrong, wrong, problems: firstOf(problems), raw };
  },
};

async function delays(staged: Stage, count: number, { seconds, word }: Round) {
  const pieces = Math.round(rate * seconds);
  const arrivals: number[] = [];
  const turn = { stage: staged, count, word: word(0), pieces, arrived: (at: number) => void arrivals.push(at) };
  const { problems, text } = await watchedTurn(turn);
  const said = readRecital(text, word(0), pieces).saidAt;
  return { problems, raw: said.map((at, number) => ((arrivals[number] ?? NaN) - at) / 1000) };
}

export const m8Delay: Row = {
  id: 'M8-delay',
  what: `from the saying of a delta by the model to whoever runs the turn, with ${watchers} watchers and with none`,
  how: `a live turn of ${rate} deltas a second; watchers are SSE followers in a process of their own`,
  unit: 'ms',
  sides: ['watched', 'alone'],
  goal: { of: 'watched', to: 'alone', figure: quantileOfAll(0.99, 'ms'), atMost: 1.05 },
  stage,
  rounds: 5,
  seconds: 20,
  async measure(staged, side, round) {
    const { problems, raw } = await delays(staged, side === 'watched' ? watchers : 0, round);
    const wrong = problems.length;
    return { value: wrong === 0 ? quantile(raw, 0.99) : null, right: 1, wrong, problems: firstOf(problems), raw };
  },
};
