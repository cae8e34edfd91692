import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { systemClock } from '../engine/clock.ts';
import type { Broker, BrokerGrant, ModelCall } from '../engine/ports.ts';
import { createBroker, type BrokerOptions, type RunningBroker } from './broker.ts';
import { finalMarker } from './failures.ts';
import { loadPrices } from './prices.ts';
import type { UpstreamSettings } from './upstream.ts';

/** A request as an upstream of a test saw it. */
export interface SeenRequest {
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Set when the connection went away before the answer was complete. */
  left: boolean;
}

export interface TestUpstream {
  readonly url: string;
  readonly requests: SeenRequest[];
}

type Handler = (response: ServerResponse, request: SeenRequest, count: number) => void | Promise<void>;

/** An upstream that does what the handler says; `count` is the number of the request, from 1. */
export async function startUpstream(t: TestContext, handler: Handler): Promise<TestUpstream> {
  const requests: SeenRequest[] = [];
  const server = http.createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
      const seen: SeenRequest = {
        url: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks).toString(),
        left: false,
      };
      requests.push(seen);
      response.on('error', () => {});
      response.once('close', () => (seen.left = !response.writableFinished));
      await handler(response, seen, requests.length);
    })();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

export const apiKey = 'sk-ant-the-real-key-0123456789';
export const model = 'claude-sonnet-4-5';

/** Settings of an upstream with one key. */
export function upstreamAt(baseUrl: string, rest: Partial<UpstreamSettings> = {}): UpstreamSettings {
  return { name: 'first', baseUrl, keys: [apiKey], maxConcurrent: 100, models: null, ...rest };
}

export interface TestBroker {
  readonly broker: RunningBroker;
  readonly records: ModelCall[];
  /** Every line that was logged, as JSON. */
  readonly lines: string[];
}

/** A broker on a socket of its own, with quick retries. Closed when the test ends. */
export async function startBroker(
  t: TestContext,
  baseUrl: string,
  options: Partial<BrokerOptions> = {},
): Promise<TestBroker> {
  const directory = await mkdtemp(join(tmpdir(), 'spb-'));
  let broker: RunningBroker | null = null;
  t.after(async () => {
    await broker?.close();
    await rm(directory, { recursive: true, force: true });
  });
  const records: ModelCall[] = [];
  const lines: string[] = [];
  const write = (data: object, message: string) => void lines.push(JSON.stringify({ ...data, message }));
  broker = await createBroker({
    socketPath: join(directory, 's'),
    upstreams: [upstreamAt(baseUrl)],
    prices: loadPrices(null),
    clock: systemClock,
    log: { info: write, warn: write, error: write },
    record: async (call) => void records.push(call),
    retry: { baseDelayMs: 1, maxDelayMs: 2 },
    ...options,
  });
  return { broker, records, lines };
}

/** A grant for a turn that may call `model` without a budget. */
export function grant(overrides: Partial<BrokerGrant> = {}): BrokerGrant {
  return {
    ref: { tenant: 'acme', conversation: 'conv-1', turn: 'turn-1', epoch: 1 },
    key: 'web',
    model,
    budgetUsd: null,
    mayCall: async () => 'yes',
    maxCalls: 100,
    hasTools: true,
    singleToolCalls: false,
    cleared: false,
    before: { calls: 0, spentUsd: 0 },
    ready: Promise.resolve(),
    onRetry: () => {},
    ...overrides,
  };
}

export interface PostOptions {
  readonly token: string;
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  readonly agent?: http.Agent;
}

/** A call as Claude Code makes it; resolves with the head of the answer. */
export async function begin(broker: Broker, options: PostOptions): Promise<IncomingMessage> {
  const request = http.request({
    socketPath: broker.socketPath,
    path: options.path ?? '/v1/messages?beta=true',
    method: options.method ?? 'POST',
    headers: { 'x-api-key': options.token, 'content-type': 'application/json', ...options.headers },
    agent: options.agent ?? false,
  });
  request.end(options.method === 'GET' ? undefined : (options.body ?? requestBody()));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return response;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** False: the connection was cut before the end. */
  readonly whole: boolean;
}

/** A call from its beginning to its end. */
export async function post(broker: Broker, options: PostOptions): Promise<Answer> {
  return await readAnswer(await begin(broker, options));
}

export async function readAnswer(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  } catch {
    // `whole` tells.
  }
  const { statusCode = 0, headers, complete } = response;
  return { status: statusCode, headers, body: Buffer.concat(chunks), whole: complete };
}

export function requestBody(extra: Record<string, unknown> = {}): string {
  return JSON.stringify({
    model,
    max_tokens: 100,
    stream: true,
    messages: [{ role: 'user', content: 'Hello' }],
    ...extra,
  });
}

const event = (data: { type: string }): string => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;

interface StreamOptions {
  readonly start?: Record<string, unknown>;
  readonly end?: Record<string, unknown>;
  readonly model?: string;
}

/** The events of a streamed answer, in the parts the Messages API has. */
export function streamOf(text: string, options: StreamOptions = {}): string {
  const usage = options.start ?? { input_tokens: 10, output_tokens: 1 };
  const delta = { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } };
  return [
    { type: 'message_start', message: { id: 'msg_1', model: options.model ?? model, usage } },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    delta,
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: options.end ?? { output_tokens: 20 } },
    { type: 'message_stop' },
  ]
    .map(event)
    .join('');
}

/** Answers with a whole stream. */
export function answerStream(response: ServerResponse, body: string | Buffer = streamOf('Hi')): void {
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).end(body);
}

/** Answers with an error status in Anthropic's shape. */
export function answerError(
  response: ServerResponse,
  status: number,
  message = 'upstream words',
  headers: Record<string, string> = {},
): void {
  response
    .writeHead(status, { 'content-type': 'application/json', ...headers })
    .end(JSON.stringify({ type: 'error', error: { type: 'some_error', message } }));
}

/** Resolves when the condition holds. Rejects when it has not come to hold for so long that it never will. */
export async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 5000) throw new Error('the condition does not come to hold');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** What an upstream does with a request; `count` is its number, from 1. */
export type Answering = (response: ServerResponse, count: number) => void;

/** A turn on a broker whose upstream does what the handler says. */
export async function startTurn(t: TestContext, handler: Answering, options: Partial<BrokerOptions> = {}) {
  const upstream = await startUpstream(t, (response, _request, count) => handler(response, count));
  const { broker, records, lines } = await startBroker(t, upstream.url, options);
  const pass = broker.issue();
  const retries: [number, string][] = [];
  const turn = pass.bind(grant({ onRetry: (attempt, reason) => retries.push([attempt, reason]) }));
  const call = () => post(broker, { token: pass.token });
  return { upstream, broker, records, lines, pass, retries, turn, call };
}

/** Asserts that the process was given a final failure. */
export function assertFinal({ status, headers, body }: Answer): void {
  assert.equal(status, 400);
  assert.equal(headers['x-should-retry'], 'false');
  assert.deepEqual(JSON.parse(body.toString()), {
    type: 'error',
    error: { type: 'billing_error', message: `${finalMarker}: the model call failed` },
  });
}
