import { connect, type AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import { after } from 'node:test';
import { defaultBounds, type QueryRequest, type RunResult, type StreamItem } from '@sallyport/protocol';
import fastify, { type FastifyInstance } from 'fastify';
import { systemClock } from '../engine/clock.ts';
import type { Engine, RunContext, RunningTurn, TurnOutcome } from '../engine/engine.ts';
import { createKeyRing } from '../engine/keys.ts';
import type { Principal, Role } from '../engine/principal.ts';
import { createApp, type AppOptions } from './app.ts';
import { closeApp } from './close.ts';

/** Support for the tests of the transport: an engine that plays what a test says, and an app over it. */

export const roles = ['admin', 'operator', 'user', 'viewer'] as const satisfies readonly Role[];
export const secretOf = (role: Role): string => `secret-of-${role}`;
export const bearer = (role: Role): Record<string, string> => ({ authorization: `Bearer ${secretOf(role)}` });

export function runResult(changes: Partial<RunResult> = {}): RunResult {
  return {
    success: true,
    error: null,
    execution_time: 0.5,
    tokens_used: 3,
    request_id: 'req-1',
    session_id: 'conv-1',
    model: 'test-model',
    stop_reason: 'end_turn',
    usage: { input_tokens: 1, output_tokens: 2, cache_read_tokens: 0, cache_write_tokens: 0 },
    cost_usd: 0.01,
    structured_output: null,
    tools_used: [],
    permission_denials: [],
    changes: null,
    changes_truncated: false,
    changed_paths: [],
    cached: false,
    ...changes,
  };
}

const common = { content: '', tools_used: [], is_complete: false, error: null };

export const textItem = (seq: number, content: string): StreamItem => ({
  cursor: { seq, chars: content.length },
  event: { ...common, role: 'assistant', type: 'text_delta', content },
});

export const retryItem = (seq: number): StreamItem => ({
  cursor: { seq, chars: 0 },
  event: { ...common, role: 'system', type: 'retry', attempt: 1, reason: 'overloaded' },
});

export function resultItem(seq: number, outcome: TurnOutcome): StreamItem {
  const code = outcome.error?.code ?? null;
  return {
    cursor: { seq, chars: 0 },
    event: { ...common, ...outcome.result, role: 'system', type: 'result', code, is_complete: true },
  };
}

export function outcomeOf(changes: Partial<RunResult> = {}, error: TurnOutcome['error'] = null): TurnOutcome {
  const timestamp = '2030-01-01T00:00:00.000Z';
  const message = { timestamp, tools_used: [], error: null };
  return {
    result: runResult(changes),
    messages: [
      { ...message, role: 'user', content: 'hi' },
      { ...message, role: 'assistant', content: 'hello' },
    ],
    error,
  };
}

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

export interface Play {
  readonly items: (context: RunContext) => AsyncGenerator<StreamItem>;
  readonly ended: (context: RunContext) => Promise<TurnOutcome>;
}

async function* hello(): AsyncGenerator<StreamItem> {
  yield textItem(1, 'hello');
  yield resultItem(2, outcomeOf());
}

/** A turn that says `hello` and ends. */
export const helloPlay: Play = { items: hello, ended: async () => outcomeOf() };

/** A turn that fails with the error after the given events. */
export function failingPlay(error: NonNullable<TurnOutcome['error']>, before: readonly StreamItem[] = []): Play {
  const outcome = outcomeOf({ success: false, stop_reason: 'error', error: error.detail }, error);
  return {
    async *items() {
      yield* before;
      yield resultItem(9, outcome);
    },
    ended: async () => outcome,
  };
}

/** A turn that says `hello` and then waits to be stopped. */
export const waitingPlay: Play = {
  async *items({ signal }) {
    yield textItem(1, 'hello');
    await aborted(signal);
    yield resultItem(2, outcomeOf({ success: false, stop_reason: 'interrupted' }));
  },
  ended: async ({ signal }) => {
    await aborted(signal);
    return outcomeOf({ success: false, stop_reason: 'interrupted' });
  },
};

/** An engine that plays one play for every query, and remembers what it was asked. */
export class TestEngine implements Engine {
  play: Play = helloPlay;
  /** Thrown instead of starting. */
  refusal: unknown = null;
  readonly calls: { principal: Principal; request: QueryRequest; context: RunContext }[] = [];
  modelCalls = 0;
  /** Generators of events that were entered and not left. */
  open = 0;
  /** Events that were taken. */
  taken = 0;

  async startQuery(principal: Principal, request: QueryRequest, context: RunContext): Promise<RunningTurn> {
    this.calls.push({ principal, request, context });
    if (this.refusal) throw this.refusal;
    const { play } = this;
    return {
      conversation: 'conv-1',
      events: () => this.#counted(play.items(context)),
      ended: play.ended(context),
    };
  }

  async *#counted(items: AsyncGenerator<StreamItem>): AsyncGenerator<StreamItem> {
    this.open += 1;
    try {
      for await (const item of items) {
        this.taken += 1;
        yield item;
      }
    } finally {
      this.open -= 1;
    }
  }

  models(): { models: string[]; default: string } {
    this.modelCalls += 1;
    return { models: ['test-model'], default: 'test-model' };
  }

  async close(): Promise<void> {}
}

export interface TestApp {
  readonly app: FastifyInstance;
  readonly engine: TestEngine;
  /** Lines of the log, parsed. */
  readonly log: Record<string, unknown>[];
}

const made: FastifyInstance[] = [];
// A test that fails leaves its app open, which would keep the whole file from ending.
after(() => Promise.all(made.map((app) => closeApp(app, 0))));

/** An app over a test engine, with one key for each role. */
export async function testApp(options: Partial<AppOptions> = {}): Promise<TestApp> {
  const engine = new TestEngine();
  const log: Record<string, unknown>[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      log.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  const app = await createApp({
    version: '1.2.3',
    engine,
    keys: createKeyRing(roles.map((role) => ({ name: role, role, tenant: 'default', secret: secretOf(role) }))),
    bounds: defaultBounds,
    clock: systemClock,
    logger: fastify({ logger: { level: 'debug', stream } }).log,
    host: '127.0.0.1',
    publicHosts: ['api.example.com'],
    corsOrigins: ['http://localhost:3000'],
    trustedProxies: [],
    maxBodyBytes: 1_000_000,
    upstream: 'simulator',
    ready: async () => [],
    claudeHealth: () => ({ status: 'healthy', claude_available: true, error: null }),
    ...options,
  });
  made.push(app);
  return { app, engine, log };
}

/** Starts listening on a free port of 127.0.0.1 and gives it. */
export async function listen(app: FastifyInstance): Promise<number> {
  await app.listen({ host: '127.0.0.1', port: 0 });
  return (app.server.address() as AddressInfo).port;
}

export const queryBody = JSON.stringify({ prompt: 'x' });

/** Sends a query to an address of the service, as its user. */
export function postQuery(port: number, path: string, signal?: AbortSignal): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    headers: { ...bearer('user'), 'content-type': 'application/json' },
    body: queryBody,
    ...(signal && { signal }),
  });
}

/** Sends bytes over a connection of its own and gives all that comes back until the server closes it. */
export function exchange(port: number, ...parts: (string | Buffer)[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let received = '';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => (received += text));
    socket.on('close', () => resolve(received));
    socket.on('error', (error) => (received === '' ? reject(error) : resolve(received)));
    for (const part of parts) socket.write(part);
  });
}

/** Tries until the check passes; a test that never passes is ended by its own time limit. */
export async function eventually(check: () => boolean): Promise<void> {
  while (!check()) await new Promise((resolve) => setTimeout(resolve, 5));
}
