import { availableParallelism } from 'node:os';
import type { ErrorCode } from '@sallyport/protocol';
import type { Clock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';
import type {
  Broker,
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
import type { ReuseBounds } from './clearing.ts';
import { transcriptState } from './recovery.ts';
import { Pool } from './pool.ts';
import { runTurn } from './run.ts';
import type { SparesOptions } from './spares.ts';

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
  /** Until when the process of a one-shot is used again. */
  readonly reuse: ReuseBounds;
  /** Processes that are started before they are asked for. */
  readonly spares: Pick<SparesOptions, 'count' | 'shapes'>;
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
  const { jails, transcripts, clock, maxProcesses, maxWaiting } = options;
  const cores = availableParallelism();
  const places = createPlaces({ places: maxProcesses, cores, waiting: maxWaiting, clock });
  // More starts at a time than there are cores only make each of them slow.
  const starts = createPlaces({ places: cores, cores: Infinity, waiting: Infinity, clock });
  const pool = new Pool({ ...options, starts, places });
  const closing = new AbortController();
  const running = new Set<Promise<RunEnd>>();
  /** Why the last run could not begin; null when it could. */
  let trouble: string | null = null;

  async function admitted(order: RunOrder, host: RunHost, signal: AbortSignal): Promise<RunEnd> {
    const stop = AbortSignal.any([signal, closing.signal]);
    const who = { tenant: order.ref.tenant, key: order.key };
    const queued = (place: number) => host.queued(place);
    const leave = await places.enter(who, stop, { patienceMs: host.timeLeftMs(), queued });
    if (leave === null) return neverRan;
    try {
      const end = await runTurn(pool.parts, order, host, stop, await pool.take(order));
      trouble = null;
      return end;
    } catch (thrown) {
      const error = SallyportError.from(thrown);
      if (troubles.has(error.code)) trouble = error.detail;
      throw error;
    } finally {
      leave();
      pool.refill();
    }
  }

  return {
    jailed: jails.isolation.jailed,
    refuse: (who, timeLeftMs) => places.refuse(who, timeLeftMs),
    notComing: () => places.notComing(),
    async run(order, host, signal) {
      if (closing.signal.aborted) throw new SallyportError('not_ready');
      const run = admitted(order, host, signal);
      running.add(run);
      return await run.finally(() => running.delete(run));
    },
    async transcriptState(tenant, session, messageUuid) {
      return transcriptState((await transcripts.load({ tenant, session, subpath: '' })) ?? [], messageUuid);
    },
    areFilesKept: (tenant, session) => jails.isKeptWhole(keptName(tenant, session)),
    giveUpFiles: (tenant, session) => jails.giveUpKept(keptName(tenant, session)),
    warm: (order) => pool.warm(order, closing.signal),
    free: (tenant, session) => pool.free(tenant, session),
    async forget(tenant, session) {
      await pool.free(tenant, session);
      await jails.forget(keptName(tenant, session));
    },
    fork: (from, to) => forkSession(transcripts, jails, from, to),
    processes: () => pool.processes(),
    files: options.files,
    health: () => ({ ok: trouble === null, detail: trouble }),
    async close() {
      closing.abort();
      await Promise.allSettled(running);
      await pool.close();
    },
  };
}

/** A run that was stopped while it waited for a place. */
const neverRan: RunEnd = { reason: 'interrupted', failure: null, structuredOutput: null, model: null, calls: [] };
