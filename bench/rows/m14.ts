import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { sendForEvents } from '../client.ts';
import type { Answer } from '../peers.ts';
import { firstOf, NoFigure, problemOf, type Round, type Row, type Sample } from '../row.ts';
import type { Service, Stage } from '../stage.ts';
import { median } from '../statistics.ts';
import { atLength, promptWith, slowly } from '../words.ts';
import { makeTalk, rawResume, resumes, type Talk } from './m6.ts';

const talks = 6;
/** Of each conversation, before its node is killed. */
const turns = 2;
const leaseSeconds = 15;
/** A client that is told to wait, or hears nothing, asks again after this. */
const retryMs = 1000;
/** Of an answer that is cut: with `slowly` it takes three seconds. */
const longChars = 3600;

/** What became of a conversation whose node is gone. */
interface Moved {
  /** From the kill to the first text of the right answer, in milliseconds. */
  readonly ms: number;
  readonly problem: string | null;
}

/** Starts a node of the service on the one database of the stage. One of the same name has the data of the one before. */
async function startNode(stage: Stage, name: string): Promise<Service> {
  const { url } = await stage.once('Postgres', () => stage.start('postgres', 'bench/postgres.ts', { env: {} }));
  return await stage.startService(name, {
    DATABASE_URL: url,
    SALLYPORT_WORKSPACES_DIR: join(stage.base, 'kept'),
    SALLYPORT_LEASE_SECONDS: String(leaseSeconds),
  });
}

/** Has a conversation on a node; its process stays. */
async function talkOn({ peer }: Service, words: readonly string[]): Promise<Talk> {
  const said: string[] = [];
  let session: string | null = null;
  for (const word of words) {
    said.push(word);
    const answer: Answer = await peer.converse(promptWith(word), session);
    const problem = problemOf(answer, said);
    if (problem !== null) throw new NoFigure(`a conversation could not be made: ${problem}`);
    session = answer.session;
  }
  return { session: session ?? '', words: said };
}

/** Says the next message, again and again while it is told to wait. */
async function sayNext({ peer }: Service, { session, words }: Talk, word: string, since: number): Promise<Moved> {
  for (;;) {
    const askedAt = performance.now();
    const answer = await peer.converse(promptWith(word), session);
    if (answer.problem === 'status 409' || answer.problem === 'status 503') {
      await delay(retryMs);
      continue;
    }
    const ms = askedAt - since + (answer.firstTextMs ?? 0);
    return { ms, problem: problemOf(answer, [...words, word]) };
  }
}

/** Begins a turn with a long answer, and resolves with its first text. */
function beginLong({ peer }: Service, { session }: Talk, word: string): Promise<void> {
  const begun = Promise.withResolvers<void>();
  const wish = `${slowly}${atLength(longChars)}`;
  const told = peer.converse(promptWith(word, wish), session, () => begun.resolve());
  void told.then(({ problem }) => begun.reject(new NoFigure(`a turn was over before its node was killed: ${problem}`)));
  return begun.promise;
}

/** Reads the turn that was cut on another node, from where it is told anew, to its end. */
async function readOn(stage: Stage, node: Service, { session, words }: Talk, since: number): Promise<Moved> {
  const url = `${node.url}/api/claude/conversation/${session}/events`;
  const headers = { authorization: `Bearer ${stage.service.keys[0]}` };
  const leave = new AbortController();
  let [text, cut, ms, ends]: [string, boolean, number | null, number] = ['', false, null, 0];
  let problem: string | null = 'the turn has no end';
  const take = (event: Record<string, any>) => {
    if (event['type'] === 'restart') [cut, text, ms] = [true, '', null];
    if (event['type'] === 'text_delta' && ends === turns) {
      text += event['content'];
      if (cut) ms ??= performance.now() - since;
    }
    if (event['type'] !== 'result' || (ends += 1) <= turns) return;
    const right = { problem: event['success'] === true ? null : String(event['error']), session, firstTextMs: ms };
    problem = problemOf({ ...right, text: text.slice(0, -longChars) }, words);
    leave.abort();
  };
  await sendForEvents({ url, method: 'GET', headers, signal: leave.signal }, take).catch(() => 0);
  return { ms: ms ?? 0, problem };
}

type Move = (stage: Stage, nodes: { one: Service; other: Service }, talk: Talk, word: string) => Promise<Step>;
/** Called with the moment of the kill. */
type Step = (since: number) => Promise<Moved>;

const between: Move =
  async (_stage, { other }, talk, word) =>
  async (since) =>
    await sayNext(other, talk, word, since);

const within: Move = async (stage, { one, other }, talk, word) => {
  await beginLong(one, talk, word);
  return async (since) => await readOn(stage, other, { ...talk, words: [...talk.words, word] }, since);
};

async function killANode(stage: Stage, round: Round, move: Move): Promise<Sample> {
  const other = await stage.once('the other node', () => startNode(stage, 'other'));
  const one = await startNode(stage, 'one');
  const word = (talk: number, turn: number) => round.word(talk * 10 + turn);
  const wordsOf = (talk: number) => Array.from({ length: turns }, (_, turn) => word(talk, turn));
  const made = await Promise.all(Array.from({ length: talks }, (_, talk) => talkOn(one, wordsOf(talk))));
  const steps = await Promise.all(made.map((talk, at) => move(stage, { one, other }, talk, word(at, turns))));
  process.kill(one.pid, 'SIGKILL');
  const since = performance.now();
  const moved = await Promise.all(steps.map((step) => step(since)));
  const [raw, problems] = [moved.map(({ ms }) => ms), moved.map(({ problem }) => problem)];
  const wrong = problems.filter((problem) => problem !== null).length;
  const value = wrong === 0 ? Math.max(...raw) : null;
  return { value, right: talks - wrong, wrong, problems: firstOf(problems), raw };
}

/** The lease, and what M6 takes for a transcript of 10 kB without the service, with a tenth more. */
async function allowed(stage: Stage, round: Round): Promise<Sample> {
  const talk = await stage.once('M6', () => makeTalk(stage, round, 10_000));
  const [raw, problems]: [number[], (string | null)[]] = [[], []];
  for (let number = 0; number < resumes; number += 1) {
    const word = round.word(500 + number);
    const answer = await rawResume(stage, talk, promptWith(word));
    problems.push(problemOf(answer, [...talk.words, word]));
    raw.push(answer.firstTextMs ?? 0);
  }
  const wrong = problems.filter((problem) => problem !== null).length;
  const value = wrong === 0 ? leaseSeconds * 1000 + 1.1 * median(raw) : null;
  const note = `of that, ${median(raw).toFixed(0)} ms are the resume`;
  return { value, right: resumes - wrong, wrong, problems: firstOf(problems), raw, note };
}

function row(id: string, what: string, move: Move): Row {
  return {
    id,
    what,
    how: `two nodes on one Postgres, which does not wait for its disk; ${talks} conversations of ${turns} turns whose processes are on the node that is killed; a client that is told to wait asks again after ${retryMs} ms; the slowest is the figure of a round; allowed are the lease of ${leaseSeconds} s and 1.1 × a raw resume as in M6`,
    unit: 'ms',
    sides: ['killed', 'allowed'],
    goal: { of: 'killed', to: 'allowed', atMost: 1 },
    rounds: 3,
    seconds: 0,
    measure: (stage, side, round) => (side === 'killed' ? killANode(stage, round, move) : allowed(stage, round)),
  };
}

export const m14 = row('M14', 'next message on another node, from the kill of the node to the first text', between);

export const m14Running = row(
  'M14-running',
  'a turn that its node was answering, from the kill of the node to its first text on another one',
  within,
);
