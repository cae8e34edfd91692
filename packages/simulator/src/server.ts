import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { checkRequest } from './check-request.ts';
import { readTurn, stepKey } from './conversation.ts';
import { demoBrain } from './demo-brain.ts';
import { Exchange, Gone, TooLarge, readBody } from './exchange.ts';
import { deliveryOf, errorDelivery, jsonDelivery } from './faults.ts';
import type { Delivery } from './faults.ts';
import { Records } from './records.ts';
import type { RecordedRequest } from './records.ts';
import { promptStep, toBrain } from './script.ts';
import { answersOf } from './single-calls.ts';
import type { Brain, MessagesRequest, Script } from './types.ts';
import { answerOf, inputTokens, newId } from './wire.ts';

/** The model every answer names; it never pretends to be one of Anthropic's. */
export const SIMULATOR_MODEL = 'sallyport-simulator';

const maxRequestBytes = 40 * 1024 * 1024;
const maxStepKeys = 10_000;

export interface SimulatorOptions {
  /** Default 127.0.0.1. */
  host?: string;
  /** Default 0: any free one. */
  port?: number;
  /** What answers requests without a script of their own; default the demo brain. */
  script?: Script | Brain;
  /** The `model` of every answer; default `SIMULATOR_MODEL`. */
  model?: string;
  /** Keep request bodies in `requests`; default true. */
  recordBodies?: boolean;
  /** Gets one line per finished request, without bodies and credentials. */
  log?: (line: string) => void;
}

export interface Simulator {
  /** For example `http://127.0.0.1:41234`. */
  url: string;
  /** The newest 1000 requests, oldest first, with at most 256 MiB of bodies. */
  requests: RecordedRequest[];
  /** Replaces what unscripted requests get, and counts attempts anew. @throws {ScriptError} on a bad script. */
  play(script: Script | Brain): void;
  /** Forgets requests and attempts and goes back to the script of the start. Open streams go on. */
  reset(): void;
  /** Breaks off open streams and stops listening. */
  close(): Promise<void>;
}

/**
 * Starts a simulated Messages API. A prompt with `<<simulate ... >>` is answered by that script.
 * @throws {ScriptError} on a bad script; the error of `listen` if the port cannot be had.
 */
export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const initial = toBrain(options.script ?? demoBrain);
  const state: State = {
    brain: initial,
    model: options.model ?? SIMULATOR_MODEL,
    records: new Records(options.recordBodies ?? true),
    attempts: new Map(),
    open: new Set(),
    log: options.log ?? (() => {}),
  };
  const server = createServer((request, response) => void handle(state, request, response));
  // Idle connections stay open: closing one just as a client reuses it would be a fault nobody asked for.
  server.keepAliveTimeout = 0;
  const host = options.host ?? '127.0.0.1';
  await listen(server, options.port ?? 0, host);
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    requests: state.records.requests,
    play(script) {
      state.brain = toBrain(script);
      state.attempts.clear();
    },
    reset() {
      state.brain = initial;
      state.attempts.clear();
      state.records.clear();
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const exchange of state.open) exchange.destroy();
      server.closeAllConnections();
      await closed;
    },
  };
}

interface State {
  brain: Brain;
  model: string;
  records: Records;
  attempts: Map<string, number>;
  open: Set<Exchange>;
  log: (line: string) => void;
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function handle(state: State, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const exchange = new Exchange(response, state.records.add(request), (settled) => {
    state.open.delete(settled);
    const { method, path, outcome, sessionId } = settled.record;
    state.log(`${method} ${path} ${response.statusCode} ${outcome} session=${sessionId ?? '-'}`);
  });
  state.open.add(exchange);
  const requestId = newId('req');
  response.setHeader('request-id', requestId);
  try {
    await answer(state, exchange, request, requestId);
  } catch (error) {
    if (error instanceof Gone) return;
    if (response.headersSent) return exchange.destroy();
    const message = error instanceof Error ? error.message : 'unknown';
    await exchange
      .deliver(errorDelivery(500, `The simulator failed: ${message}`, requestId), Infinity, 'faulted')
      .catch(() => {});
  }
}

async function answer(state: State, exchange: Exchange, request: IncomingMessage, requestId: string): Promise<void> {
  const refuse = (status: number, message: string) =>
    exchange.deliver(errorDelivery(status, message, requestId), Infinity, 'answered');
  let raw: Buffer;
  try {
    raw = await readBody(request, maxRequestBytes);
  } catch (error) {
    if (!(error instanceof TooLarge)) throw error;
    return refuse(413, 'Request exceeds the maximum size');
  }
  const path = (request.url ?? '').split('?')[0];
  const counting = path === '/v1/messages/count_tokens';
  if (request.method !== 'POST' || !(counting || path === '/v1/messages')) return refuse(404, 'Not found');
  const body = checkRequest(parseJson(raw), counting);
  if (typeof body === 'string') return refuse(400, body);
  state.records.addBody(exchange.record, body, raw.length);
  if (counting) return exchange.deliver(jsonDelivery({ input_tokens: inputTokens(body) }), Infinity, 'answered');
  return playStep(state, exchange, body, requestId);
}

/** Undefined for what is no JSON. */
function parseJson(raw: Buffer): unknown {
  try {
    return JSON.parse(raw.toString());
  } catch {
    return undefined;
  }
}

async function playStep(state: State, exchange: Exchange, body: MessagesRequest, requestId: string): Promise<void> {
  const session = exchange.record.sessionId;
  const { call } = readTurn(body);
  const attempt = countAttempt(state, stepKey(body, session));
  const decided = promptStep(body, call) ?? (await state.brain(body, { call, attempt, session }));
  const [step] = answersOf(decided, body);
  if (step.delay_ms !== undefined) await exchange.pause(step.delay_ms);
  const fault = attempt <= (step.fault_times ?? Infinity) ? step.fault : undefined;
  const whole = answerOf(step, body, state.model);
  const delivery: Delivery = deliveryOf(whole, step, fault, body.stream === true, requestId);
  await exchange.deliver(delivery, step.rate ?? Infinity, fault ? 'faulted' : 'answered');
}

function countAttempt(state: State, key: string): number {
  const attempt = (state.attempts.get(key) ?? 0) + 1;
  state.attempts.delete(key);
  state.attempts.set(key, attempt);
  const oldest = state.attempts.keys().next();
  if (state.attempts.size > maxStepKeys && !oldest.done) state.attempts.delete(oldest.value);
  return attempt;
}
