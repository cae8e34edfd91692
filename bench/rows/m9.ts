import { haveConversations } from '../conversations.ts';
import { sendForJson } from '../client.ts';
import { measurable, memoryOf } from '../memory.ts';
import { firstOf, quantileOfAll, type Row, type Sample } from '../row.ts';
import { multiply } from '../seed.ts';
import type { Service, Stage } from '../stage.ts';
import { setTimeout as delay } from 'node:timers/promises';
import { openingOf, watchersOf, type Opening } from '../watchers.ts';

const subscribers = 2000;
const idleMs = 1000;
const kib = 1024;

/** What is subscribed to, and the server of it. */
interface Subscribed {
  readonly pid: number;
  readonly opening: Omit<Opening, 'count'>;
  /** Has something told to all subscribers. */
  say(): Promise<string | null>;
  /** Ends of turns that they are told then, those before their time included. */
  readonly ends: number;
  readonly text: string;
  end(): Promise<void>;
}

async function ofService(stage: Stage, kind: Opening['kind']): Promise<Subscribed> {
  const peer = stage.sallyport;
  const { session, problem } = await peer.converse('Are you ready?', null);
  if (problem !== null) throw new Error(`a conversation did not start: ${problem}`);
  return {
    pid: stage.service.pid,
    opening: openingOf(stage, kind, session),
    say: async () => (await peer.converse('Are you still there?', session)).problem,
    ends: 2,
    text: 'Ready.',
    end: () => peer.end(session),
  };
}

async function ofBare(stage: Stage, kind: Opening['kind']): Promise<Subscribed> {
  const { url, pid } = await stage.once('bare', () => stage.start('bare', 'bench/bare/main.ts', { env: measurable }));
  return {
    pid,
    opening: { kind, url: kind === 'stream' ? url : url.replace('http', 'ws'), headers: {} },
    async say() {
      const { status } = await sendForJson({ url, method: 'POST', body: { word: 'w', pieces: 0, rate: 1 } });
      return status === 200 ? null : `status ${status}`;
    },
    ends: 1,
    text: '',
    end: async () => undefined,
  };
}

/** KiB that each of many idle subscribers takes of the memory that is used. */
async function subscriberMemory(stage: Stage, { pid, opening, say, ends, text, end }: Subscribed): Promise<Sample> {
  const all = await watchersOf(stage);
  await delay(idleMs);
  const before = await memoryOf(stage, pid);
  await all.open({ ...opening, count: subscribers });
  await delay(idleMs);
  const after = await memoryOf(stage, pid);
  const problems = [await say()].filter((problem) => problem !== null);
  const seen = await all.collect(ends);
  await all.close();
  await end();
  if (seen.late > 0) problems.push(`${seen.late} subscribers were not told`);
  if (seen.texts.some((told) => told !== text)) problems.push(`subscribers were told ${JSON.stringify(seen.texts)}`);
  const value = (after.used - before.used) / subscribers / kib;
  const wrong = problems.length;
  const raw = [before.used, after.used, before.resident, after.resident];
  return {
    value: wrong ? null : value,
    right: seen.count,
    wrong,
    problems: firstOf(problems),
    raw,
  };
}

const rowOf = (id: string, kind: Opening['kind'], name: string): Row => ({
  id,
  what: `memory of an idle ${name} subscriber, against one of a bare Node server`,
  how: `${subscribers} subscribers of one conversation; after garbage collection, of the heap and of what hangs from it`,
  unit: 'KiB',
  sides: ['sallyport', 'bare'],
  goal: { of: 'sallyport', to: 'bare', atMost: 1.3 },
  stage: { upstream: 'bench/reciter.ts', settings: measurable },
  rounds: 3,
  seconds: 0,
  measure: async (stage, side) =>
    await subscriberMemory(stage, await (side === 'bare' ? ofBare(stage, kind) : ofService(stage, kind))),
});

export const m9 = rowOf('M9', 'stream', 'SSE');
export const m9Sockets = rowOf('M9-sockets', 'socket', 'WebSocket');

const listed = 5000;
const stored = 100_000;
const page = 100;

interface Filled extends Service {
  /** The conversation that all others are copies of. */
  readonly first: string;
}

/** A service whose store holds so many idle conversations of one turn each. */
async function filled(stage: Stage, copies: number): Promise<Filled> {
  return await stage.once('full', async () => {
    const empty = await stage.startService('full', {});
    const { session, problem } = await empty.peer.converse('Are you ready?', null);
    await empty.close();
    if (problem !== null) throw new Error(`a conversation did not start: ${problem}`);
    multiply(empty.dataDir, session, copies);
    return { ...(await stage.startService('full', {})), first: session };
  });
}

/** Lists all conversations and reads what was said in each; gives what is wrong. */
async function readAll(stage: Stage, url: string, wanted: number): Promise<(string | null)[]> {
  const headers = { authorization: `Bearer ${stage.service.keys[0]}` };
  const get = (path: string) => sendForJson({ url: `${url}/api/claude/conversation${path}`, method: 'GET', headers });
  const problems: (string | null)[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const { body }: { body: Record<string, any> } = await get(`?limit=${page}${cursor && `&cursor=${cursor}`}`);
    for (const { session_id } of body['items']) {
      const messages = await get(`/${session_id}/messages`);
      const isRight = messages.body['items']?.at(-1)?.content === 'Ready.';
      problems.push(isRight ? null : `${session_id}: ${JSON.stringify(messages.body).slice(0, 200)}`);
    }
    cursor = body['next_cursor'];
  }
  if (problems.length !== wanted) problems.push(`${problems.length} conversations are listed, not ${wanted}`);
  return problems;
}

/** Reads the conversation of an empty service as often, so that both have done the same. */
async function idleMemory(stage: Stage, side: string): Promise<Sample> {
  const service = side === 'full' ? await filled(stage, listed) : stage.service;
  let problems: (string | null)[] = [];
  if (side === 'full') problems = await readAll(stage, service.url, listed + 1);
  else {
    const session = await stage.once(
      'one',
      async () => (await stage.sallyport.converse('Are you ready?', null)).session,
    );
    for (let left = listed; left > 0; left -= 1) problems.push(...(await readAll(stage, service.url, 1)));
    if (session === '') problems.push('a conversation did not start');
  }
  const { used, resident } = await memoryOf(stage, service.pid);
  const wrong = problems.filter((problem) => problem !== null).length;
  const value = wrong ? null : used / listed / kib;
  return { value, right: problems.length - wrong, wrong, problems: firstOf(problems), raw: [used, resident] };
}

export const m9Idle: Row = {
  id: 'M9-idle',
  what: 'memory of an idle conversation',
  how: `heap after garbage collection of a service that has listed and read each of ${listed} stored conversations, less that of one that has read its only one as often; both by the number of conversations`,
  unit: 'KiB',
  sides: ['full', 'empty'],
  goal: { of: 'full', to: 'empty', by: 'difference', atMost: 1 },
  stage: { upstream: 'bench/reciter.ts', settings: measurable },
  rounds: 3,
  seconds: 0,
  measure: async (stage, side) => await idleMemory(stage, side),
};

const conversations = 3;
const turns = 20;

export const m9Stored: Row = {
  id: 'M9-stored',
  what: `next turn of a live conversation: time to first text, with ${stored} idle conversations and with none`,
  how: `the same service over two stores; ${conversations} conversations of ${turns} counted turns in each round`,
  unit: 'ms',
  sides: ['full', 'empty'],
  goal: [0.5, 0.99].map((share) => ({ of: 'full', to: 'empty', figure: quantileOfAll(share, 'ms'), atMost: 1.05 })),
  rounds: 9,
  seconds: 0,
  async measure(stage, side, round) {
    const { peer } = side === 'full' ? await filled(stage, stored) : { peer: stage.sallyport };
    return await haveConversations({ peer, round, count: conversations, turns });
  },
};
