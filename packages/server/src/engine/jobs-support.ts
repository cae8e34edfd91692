import type { TestContext } from 'node:test';
import { startOfLog, type LogEventBody, type RunResult } from '@sallyport/protocol';
import { LocalQueue } from '../coordination/queue-local.ts';
import { runResult } from '../http/samples-support.ts';
import { openStores, type Stores } from '../stores/stores.ts';
import { aDirectory } from '../testing/directory.ts';
import { anAccept, aText } from '../testing/turns.ts';
import { aDelivery } from '../testing/webhook-stores.ts';
import { aPrincipal } from './cache-support.ts';
import { systemClock } from './clock.ts';
import { SallyportError } from './errors.ts';
import { follow } from './follow.ts';
import type { JobParts } from './jobs-parts.ts';
import { JobWorker } from './jobs-worker.ts';
import { LiveLog } from './live.ts';
import type { TurnOutcome } from './engine.ts';
import type { StoredJob, TurnRef } from './ports.ts';

/** Support for tests of jobs, over real stores, with runs that the test ends. */

/** A run of a test. Its log is in the store. */
export interface JobRun {
  readonly conversation: string;
  readonly say: (body: LogEventBody, state?: 'running' | 'waiting') => Promise<void>;
  readonly end: (result?: Partial<RunResult>) => Promise<void>;
}

/** What a result says that was cut by a stop of the service, and by a client. */
export const cut = {
  shutdown: {
    success: false,
    stop_reason: 'interrupted',
    error: 'The run was stopped because the service is stopping.',
  },
  interrupt: { success: false, stop_reason: 'interrupted', error: 'The run was interrupted.' },
} as const;

export interface JobWorld {
  readonly stores: Stores;
  readonly engine: JobParts['engine'];
  /** The runs that workers have begun. */
  readonly begun: JobRun[];
  /** A run in the store that no worker has begun: another process did. */
  run(conversation: string): Promise<JobRun>;
  /** What a node has, with changes. */
  parts(node: string, changes?: Partial<JobParts>): JobParts;
  /** A worker of a node, one place, not started; closed after the test. */
  worker(node: string, changes?: Partial<JobParts>): JobWorker;
  job(id: string): Promise<StoredJob>;
}

const logger = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** Ends of runs that workers have begun, by conversation. */
type Ends = Map<string, PromiseWithResolvers<TurnOutcome>>;

/** Stores with the given nodes in their list. */
export async function jobWorld(t: TestContext, ...nodes: readonly string[]): Promise<JobWorld> {
  const stores = await openStores({ dataDir: aDirectory(t), clock: systemClock });
  const workers: JobWorker[] = [];
  const ends: Ends = new Map();
  t.after(async () => {
    // As an engine that closes does; what has no end in the store goes on elsewhere.
    for (const { resolve } of ends.values()) resolve({ result: runResult(), messages: [], error: null });
    for (const worker of workers) await worker.close();
    await stores.close();
  });
  for (const node of nodes) await stores.nodes.join(node, node);
  const begun: JobRun[] = [];
  const run = async (conversation: string): Promise<JobRun> => {
    const { ref } = await stores.turns.accept(acceptOf(conversation));
    return runOf(stores, ref, (outcome) => ends.get(conversation)?.resolve(outcome));
  };
  const engine = engineOf(stores, ends, async (conversation) => void begun.push(await run(conversation)));
  const parts: JobWorld['parts'] = (node, changes = {}) => ({ ...partsOf(stores, engine, node), ...changes });
  return {
    stores,
    engine,
    begun,
    run,
    parts,
    worker(node, changes) {
      const worker = new JobWorker(parts(node, changes));
      workers.push(worker);
      return worker;
    },
    async job(id) {
      const job = await stores.jobs.get('default', id);
      if (job === null) throw new Error(`there is no job ${id}`);
      return job;
    },
  };
}

const engineOf = (stores: Stores, ends: Ends, begin: (conversation: string) => Promise<void>): JobParts['engine'] => ({
  checkQuery: async () => undefined,
  stopTurn: async () => false,
  async startJob(_principal, _request, { id }) {
    const ended = Promise.withResolvers<TurnOutcome>();
    ends.set(id, ended);
    await begin(id);
    const waiting = new Promise<never>(() => undefined);
    const events = () => follow(followed(stores, id), startOfLog);
    return { conversation: id, replayed: false, waiting, ended: ended.promise, events, totalMessages: async () => 0 };
  },
  async events({ tenant }, id, { after }) {
    const found = await stores.conversations.get(tenant, id);
    if (found === null) throw new SallyportError('conversation_not_found');
    if (after.seq > found.lastSeq) throw new SallyportError('bad_cursor');
    return follow(followed(stores, id), after);
  },
});

const partsOf = (stores: Stores, engine: JobParts['engine'], node: string): JobParts => ({
  ...stores,
  engine,
  keyRing: { named: async () => aPrincipal },
  stops: { check: async () => undefined },
  queue: new LocalQueue(systemClock),
  webhooks: {
    check: async () => undefined,
    delivery: (tenant, _, job) => aDelivery(job.job_id, { tenant }),
    nudge: () => undefined,
  },
  clock: systemClock,
  logger,
  lease: { node, held: true },
  limits: { atOnce: 1, perTenant: 0, queued: 1000, keptMs: 1000 },
});

function acceptOf(conversation: string) {
  const accept = anAccept(conversation, 'default', [
    { type: 'user_message', text: 'Do it.', message_uuid: `message of ${conversation}` },
  ]);
  return { ...accept, conversation: { ...accept.conversation, kind: 'job' as const } };
}

const followed = (store: Stores, conversation: string) => ({
  store: store.turns,
  tenant: 'default',
  conversation,
  live: new LiveLog(),
  wait: false,
  isLast: null,
});

function runOf({ turns }: Stores, ref: TurnRef, ended: (outcome: TurnOutcome) => void): JobRun {
  const at = systemClock.now();
  return {
    conversation: ref.conversation,
    say: async (body, state) => void (await turns.append(ref, at, [body], state)),
    async end(changes = {}) {
      const result = runResult({ session_id: ref.conversation, ...changes });
      const state = result.success ? 'completed' : 'interrupted';
      await turns.append(ref, at, [aText(`Said in ${ref.conversation}.`)]);
      await turns.finish(ref, { state, at, result, code: null, nothingRan: false, files: [] });
      ended({ result, messages: [], error: null });
    },
  };
}
