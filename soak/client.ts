import { setTimeout as delay } from 'node:timers/promises';

export type Body = Record<string, any>;

/** The service did something that it must not do. */
export class Wrong extends Error {}
/** A turn ended because its process was gone. It may happen once for each process that was killed. */
export class Crashed extends Error {}

/** An answer that is not the one that was expected. */
export function expect(condition: boolean, what: string, found: unknown): asserts condition {
  if (!condition) throw new Wrong(`${what}: ${JSON.stringify(found)?.slice(0, 400)}`);
}

/** The end of a turn, from an answer as JSON or the last event of a stream: throws unless it is a good one. */
export function expectEnd(end: Body, reason = 'end_turn'): void {
  if (end['code'] === 'agent_crashed') throw new Crashed();
  expect(end['stop_reason'] === reason, `a turn did not end with ${reason}`, end);
  expect(end['success'] === (reason === 'end_turn'), 'success does not tell how the turn ended', end);
}

/** What a stream told. */
export interface Heard {
  readonly text: string;
  readonly end: Body;
}

const longestRefusals = 300;
const shortestPauseMs = 200;
const longestPauseMs = 5000;

/** One who uses the service with a key. Refusals because there is too much to do are waited out, and counted. */
export class Client {
  readonly url: string;
  readonly key: string;
  refusals = 0;

  constructor(url: string, key: string) {
    this.url = url;
    this.key = key;
  }

  /** One request as it is, whatever comes of it. */
  async fetch(method: string, path: string, body?: unknown, more: RequestInit = {}): Promise<Response> {
    return await fetch(`${this.url}/api/claude/${path}`, {
      method,
      ...more,
      headers: {
        authorization: `Bearer ${this.key}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(more.headers as Record<string, string>),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  }

  /** A request that is taken at last. Throws `Crashed`, or `Wrong` for every other status than 2xx. */
  async send(method: string, path: string, body?: unknown, more: RequestInit = {}): Promise<Response> {
    for (let tries = 0; ; tries += 1) {
      const response = await this.fetch(method, path, body, more);
      if (response.ok) return response;
      const error = (await response.json()) as Body;
      if (error['code'] === 'agent_crashed') throw new Crashed();
      const isFull = response.status === 503 && error['code'] === 'overloaded';
      expect(isFull && tries < longestRefusals, `${method} ${path} gave ${response.status}`, error);
      this.refusals += 1;
      const seconds = Number(response.headers.get('retry-after') ?? 0);
      await delay(Math.min(longestPauseMs, Math.max(shortestPauseMs, seconds * 1000)));
    }
  }

  async json(method: string, path: string, body?: unknown): Promise<Body> {
    return (await (await this.send(method, path, body)).json()) as Body;
  }

  /**
   * A request that is answered with events. `take` is told of each, with the text so far; true: the client leaves, and
   * the end is that event.
   */
  async stream(path: string, body: unknown, take: Taker = () => false): Promise<Heard> {
    const response = await this.send('POST', path, body, { headers: { accept: 'text/event-stream' } });
    let [text, end]: [string, Body | null] = ['', null];
    for await (const event of eventsOf(response)) {
      if (event['type'] === 'restart') text = '';
      if (event['type'] === 'text_delta') text += event['content'];
      // To leave the loop is to leave the service: the rest of the answer is refused.
      if (await take(event, text)) return { text, end: event };
      if (event['is_complete'] === true) end = event;
    }
    if (end === null) throw new Wrong(`a stream has no end: ${text.slice(0, 200)}`);
    return { text, end };
  }
}

export type Taker = (event: Body, text: string) => boolean | Promise<boolean>;

async function* eventsOf(response: Response): AsyncGenerator<Body> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of response.body ?? []) {
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = /^data: (.*)$/mu.exec(block)?.[1];
      if (data !== undefined && data !== '[DONE]') yield JSON.parse(data) as Body;
    }
  }
}
