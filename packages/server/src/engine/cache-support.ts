import type { TestContext } from 'node:test';
import { defaultBounds, queryRequest, type RunResult } from '@sallyport/protocol';
import { LocalCache } from '../coordination/local-cache.ts';
import { openStores, type Stores } from '../stores/stores.ts';
import { aDirectory } from '../testing/directory.ts';
import { HandClock } from '../testing/limiter.ts';
import { anAccept, anEnd, aText } from '../testing/turns.ts';
import { Answers, type OneShot, type StartedRun } from './cache.ts';
import type { EngineParts, RunningTurn, TurnOutcome } from './engine.ts';
import type { SallyportError } from './errors.ts';
import { LiveLogs } from './live.ts';
import { messagesOf } from './messages.ts';
import { decideProfile } from './policy.ts';
import type { Principal } from './principal.ts';
import { eventsOf, type AcceptedTurn } from './turns.ts';

/** Support for tests of stored and shared answers, over real stores, with runs that the test ends. */

export const aPrincipal: Principal = {
  tenant: 'default',
  key: 'key-1',
  secretHash: null,
  role: 'user',
  narrowing: null,
  expiresAt: null,
};

export const policy = { models: ['some-model', 'other-model'], defaultModel: 'some-model', openToolsUnasked: true };

const schema = queryRequest(defaultBounds);

/** A request that may be answered again, as it is parsed and decided. */
export function asked(fields: object = {}, principal: Principal = aPrincipal): Pick<OneShot, 'profile' | 'request'> {
  const request = schema.parse({
    prompt: 'What is there?',
    permission_mode: 'readOnly',
    cache: 'auto',
    ...fields,
  });
  return { request, profile: decideProfile(principal, request, null, policy) };
}

/** Who asks in a test: its request can be left. */
export interface Caller {
  readonly answer: Promise<RunningTurn>;
  readonly leave: () => void;
}

/** A run of a test, which has begun. */
export interface TestRun {
  readonly id: string;
  /** True once it was told to stop. */
  readonly stopped: () => boolean;
  /** Ends it with a text and this result. */
  readonly end: (text: string, result?: Partial<RunResult>) => Promise<void>;
  /** Ends it as one that is refused: nothing of it is stored. */
  readonly refuse: (error: SallyportError) => Promise<void>;
}

/** Stored and shared answers over real stores. */
export class AnswersBench {
  readonly stores: Stores;
  readonly clock = new HandClock();
  readonly cache: LocalCache;
  /** Runs that were started, in order. */
  readonly runs: TestRun[] = [];
  /** What was logged as a warning. */
  readonly warnings: unknown[] = [];
  /** Awaited before each run is started. */
  beforeStart: () => Promise<unknown> = async () => undefined;
  /** Called at the moment in which a run has ended and nobody was told yet. */
  atEnd: () => void = () => undefined;
  readonly #answers: Answers;
  readonly #parts: EngineParts;
  readonly #logs = new LiveLogs();
  #callers = 0;
  #starts = 0;

  constructor(stores: Stores, changes: Partial<EngineParts> = {}) {
    this.stores = stores;
    this.cache = new LocalCache({ clock: this.clock, maxBytes: 64_000_000 });
    const parts: Partial<EngineParts> = {
      turns: stores.turns,
      conversations: stores.conversations,
      audit: stores.audit,
      clock: this.clock,
      logger: { info() {}, warn: (...line) => void this.warnings.push(line), error() {} },
      configuration: 'configuration',
      responseCache: this.cache,
      cacheTtlSeconds: 60,
      ...changes,
    };
    this.#parts = parts as EngineParts;
    this.#answers = new Answers(this.#parts, this.#logs);
  }

  /** Asks, as a request of its own. */
  ask(fields: object = {}, principal: Principal = aPrincipal, abort = new AbortController()): Caller {
    this.#callers += 1;
    const { signal } = abort;
    const one: OneShot = { ...asked(fields, principal), principal, requestId: `req-${this.#callers}`, signal };
    const answer = this.#answers.to(one, async () => {
      await this.beforeStart();
      return await this.#start(principal.tenant);
    });
    answer.catch(() => undefined);
    return { answer, leave: () => abort.abort() };
  }

  /** As when a conversation was deleted here. */
  forget(id: string): void {
    this.#answers.forget('default', id);
  }

  close(): Promise<void> {
    return this.#answers.close();
  }

  async #start(tenant: string): Promise<StartedRun> {
    this.#starts += 1;
    const id = `conv-${this.#starts}`;
    const said = { type: 'user_message' as const, text: 'What is there?', message_uuid: id };
    const { ref } = await this.stores.turns.accept(anAccept(id, tenant, [said]));
    const live = this.#logs.acquire(tenant, id);
    const ended = Promise.withResolvers<TurnOutcome>();
    let stopped = false;
    const over = (outcome: TurnOutcome) => {
      this.#logs.release(tenant, id);
      ended.resolve(outcome);
      this.atEnd();
    };
    this.runs.push({
      id,
      stopped: () => stopped,
      end: async (text, changes = {}) => {
        const result: RunResult = { ...anEnd.result, session_id: id, ...changes };
        const told = await this.stores.turns.append(ref, 0, [aText(text)]);
        const last = await this.stores.turns.finish(ref, { ...anEnd, result });
        for (const event of [...told, last]) live.event(event);
        const log = await this.stores.turns.read(tenant, id, 0, 100);
        over({ result, messages: messagesOf(log), error: null });
      },
      refuse: async (error) => {
        await this.stores.conversations.delete(tenant, id);
        live.fail(error);
        const result: RunResult = { ...anEnd.result, success: false, stop_reason: 'error', session_id: id };
        over({ result, messages: [], error });
      },
    });
    const turn: RunningTurn = {
      conversation: id,
      replayed: false,
      waiting: new Promise(() => {}),
      ended: ended.promise,
      events: () => eventsOf(this.#parts, this.#logs, { ref, lastSeq: 1 } as AcceptedTurn),
      totalMessages: async () => 2,
    };
    return { ref, turn, stop: () => (stopped = true) };
  }
}

/** A bench that goes with the test. */
export async function answersBench(t: TestContext, changes: Partial<EngineParts> = {}): Promise<AnswersBench> {
  const clock = new HandClock();
  const stores = await openStores({ dataDir: aDirectory(t), clock });
  t.after(() => stores.close());
  return new AnswersBench(stores, changes);
}
