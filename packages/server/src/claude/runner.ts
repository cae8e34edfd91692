import { availableParallelism } from 'node:os';
import type { ErrorCode } from '@sallyport/protocol';
import type { Clock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';
import type {
  Broker,
  LiveProcess,
  Log,
  RunEnd,
  RunHost,
  RunOrder,
  Runner,
  TranscriptStore,
  WorkspaceFiles,
} from '../engine/ports.ts';
import { createPlaces } from './admission.ts';
import { forkSession } from './fork.ts';
import type { Jails } from './jail.ts';
import { keptName } from './kept-files.ts';
import { LivePool } from './live.ts';
import { transcriptState } from './recovery.ts';
import { runTurn, type RunParts } from './run.ts';

export interface RunnerOptions {
  readonly broker: Broker;
  readonly jails: Jails;
  readonly transcripts: TranscriptStore;
  readonly files: WorkspaceFiles;
  readonly clock: Clock;
  readonly log: Log;
  /** Most processes at a time, those included that wait for the next turn of their conversation. */
  readonly maxProcesses: number;
  /** Most runs that wait for a process; a further one is refused as `overloaded`. */
  readonly maxWaiting: number;
}

/** Codes that say of a run which could not begin that others will not either. */
const troubles: ReadonlySet<ErrorCode> = new Set([
  'agent_crashed',
  'isolation_unavailable',
  'internal',
  'storage_full',
]);

/** Makes the runner. It owns the processes it starts, not the broker and the jails. */
export function createRunner(options: RunnerOptions): Runner {
  const { broker, jails, transcripts, log, clock, maxProcesses, maxWaiting } = options;
  const places = createPlaces({ places: maxProcesses, waiting: maxWaiting, clock });
  // More starts at a time than there are cores only make each of them slow.
  const starts = createPlaces({ places: availableParallelism(), waiting: Infinity, clock });
  const live = new LivePool(log);
  const parts: RunParts = { broker, jails, transcripts, clock, log, starts, live, busy: new Map() };
  const closing = new AbortController();
  const running = new Set<Promise<RunEnd>>();
  /** Why the last run could not begin; null when it could. */
  let trouble: string | null = null;

  async function admitted(order: RunOrder, host: RunHost, signal: AbortSignal): Promise<RunEnd> {
    const stop = AbortSignal.any([signal, closing.signal]);
    const leave = await places.enter(order.ref.tenant, stop);
    if (leave === null) return neverRan;
    try {
      // Processes that wait for a turn take no place, but give way to those that have one.
      const waiting = live.take(order);
      await live.fit(places.free);
      const end = await runTurn(parts, order, host, stop, waiting);
      trouble = null;
      return end;
    } catch (thrown) {
      const error = SallyportError.from(thrown);
      if (troubles.has(error.code)) trouble = error.detail;
      throw error;
    } finally {
      leave();
    }
  }

  return {
    jailed: jails.isolation.jailed,
    async run(order, host, signal) {
      if (closing.signal.aborted) throw new SallyportError('not_ready');
      const run = admitted(order, host, signal);
      running.add(run);
      try {
        return await run;
      } finally {
        running.delete(run);
      }
    },
    async transcriptState(tenant, session, messageUuid) {
      return transcriptState((await transcripts.load({ tenant, session, subpath: '' })) ?? [], messageUuid);
    },
    free: (tenant, session) => live.free(tenant, session),
    async forget(tenant, session) {
      await live.free(tenant, session);
      await jails.forget(keptName(tenant, session));
    },
    fork: (from, to) => forkSession(transcripts, jails, from, to),
    processes: () => processesOf(parts),
    files: options.files,
    health: () => ({ ok: trouble === null, detail: trouble }),
    async close() {
      closing.abort();
      await Promise.allSettled(running);
      await live.fit(0);
    },
  };
}

/** The processes there are, each with the turn that is in it, or was last. */
function processesOf({ jails, live, busy }: RunParts): LiveProcess[] {
  return jails.live().map((each) => {
    const running = busy.get(each.id);
    const order = running ?? live.lastOf(each.id);
    return { ...each, state: running ? 'running' : order ? 'idle' : 'starting', order };
  });
}

/** A run that was stopped while it waited for a place. */
const neverRan: RunEnd = { reason: 'interrupted', failure: null, structuredOutput: null, model: null, calls: [] };
