import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingHttpHeaders } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Message, MessagesRequest, Simulator } from '../src/index.ts';

export interface RawAnswer {
  /** 0 if no headers came. */
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
  /** `clean`: the body ended as HTTP says; `broken`: the connection went away before. */
  end: 'clean' | 'broken';
  /** Sizes of the reads the body came in. */
  reads: number[];
}

export interface SseEvent {
  type: string;
  index?: number;
  delta?: { type: string; text?: string; thinking?: string; partial_json?: string; [key: string]: unknown };
  content_block?: { type: string; [key: string]: unknown };
  message?: { [key: string]: unknown };
  usage?: { [key: string]: unknown };
  error?: { type: string; message: string };
  [key: string]: unknown;
}

/** A running request: `answer` fills while it runs, `done` resolves at its end. */
export interface RawRequest {
  answer: RawAnswer;
  done: Promise<RawAnswer>;
  leave: () => void;
}

/** Sends a request with plain HTTP, on a connection of its own. */
export function send(url: string, body: unknown, options: { path?: string; method?: string; session?: string } = {}) {
  const answer: RawAnswer = { status: 0, headers: {}, body: '', end: 'broken', reads: [] };
  let client: ClientRequest | undefined;
  const done = new Promise<RawAnswer>((resolve) => {
    const headers: Record<string, string> = { 'content-type': 'application/json', 'x-api-key': 'key-of-the-test' };
    if (options.session !== undefined) headers['x-claude-code-session-id'] = options.session;
    const method = options.method ?? 'POST';
    client = httpRequest(
      new URL(options.path ?? '/v1/messages?beta=true', url),
      { method, headers, agent: false },
      (response) => {
        const decoder = new TextDecoder();
        answer.status = response.statusCode ?? 0;
        answer.headers = response.headers;
        response.on('data', (chunk: Buffer) => {
          answer.body += decoder.decode(chunk, { stream: true });
          answer.reads.push(chunk.length);
        });
        response.on('end', () => (answer.end = 'clean'));
        response.on('error', () => {});
        response.on('close', () => resolve(answer));
      },
    );
    client.on('error', () => resolve(answer));
    client.end(typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body));
  });
  const running: RawRequest = { answer, done, leave: () => client?.destroy() };
  return running;
}

export function user(content: Message['content']): Message {
  return { role: 'user', content };
}

export function ask(messages: Message[] | string, more: Partial<MessagesRequest> = {}): MessagesRequest {
  const list = typeof messages === 'string' ? [user(messages)] : messages;
  return { model: 'claude-opus-5-5', max_tokens: 1000, stream: true, messages: list, ...more };
}

/** Asks and waits for the end. */
export async function fetchRaw(simulator: Simulator, body: unknown, session?: string): Promise<RawAnswer> {
  return send(simulator.url, body, session === undefined ? {} : { session }).done;
}

/** The events of a well-formed stream, checked: each has a name equal to its type. A cut last one is left out. */
export function events(body: string): SseEvent[] {
  return body
    .split('\n\n')
    .slice(0, -1)
    .filter((frame) => !frame.startsWith(':'))
    .map((frame) => {
      const [name = '', data = '', ...rest] = frame.split('\n');
      assert.equal(rest.length, 0);
      assert.ok(data.startsWith('data: '));
      const parsed = JSON.parse(data.slice('data: '.length)) as SseEvent;
      assert.equal(name, `event: ${parsed.type}`);
      return parsed;
    });
}

/** The joined content of a stream: text, thinking and tool input, in order. */
export function content(body: string): string {
  return events(body)
    .map(({ delta }) => delta?.text ?? delta?.thinking ?? delta?.partial_json ?? '')
    .join('');
}

/** Waits for a condition; fails after ten seconds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, `waited in vain for: ${what}`);
    await sleep(10);
  }
}
