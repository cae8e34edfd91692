import type { StreamEvent } from '@sallyport/protocol';
import { setTimeout as delay } from 'node:timers/promises';
import type { Dice } from '../../soak/random.ts';
import type { History, Operation, Told } from './history.ts';
import type { World } from './world.ts';

/** Something that a client asks for. */
export interface Asked extends Pick<Operation, 'what' | 'path'> {
  method?: 'GET' | 'POST' | 'DELETE';
  body?: object;
  conversation?: string;
  word?: string;
  key?: string;
  /** Asks for events. */
  streams?: boolean;
  /** Is told of each event with the number of them; true: the client leaves. */
  heard?: (told: Told, count: number) => boolean | void;
}

/** Longest that a client waits for anything. */
const longestMs = 150_000;
const tries = 120;
const pauseMs = 250;

/** One who uses the service with the key of a tenant, and notes what it does and gets. */
export class Caller {
  readonly tenant: string;
  readonly #world: World;
  readonly #history: History;
  readonly #dice: Dice;

  constructor(world: World, history: History, tenant: string, dice: Dice) {
    this.tenant = tenant;
    this.#world = world;
    this.#history = history;
    this.#dice = dice;
  }

  /** Asks once, whatever comes of it. Never rejects. */
  async ask(asked: Asked): Promise<Operation> {
    const { what, path, body, conversation = null, word = null, key = null } = asked;
    const sent = body === undefined ? null : JSON.stringify(body);
    const operation = this.#history.begin({ tenant: this.tenant, what, path, conversation, word, key, body: sent });
    try {
      await this.#send(operation, asked, sent);
    } catch {
      // The connection broke, or there was none: whether it was done is not known.
      operation.outcome = operation.left ? 'ok' : 'unknown';
    }
    operation.endedAt = Date.now();
    return operation;
  }

  /** Asks until it is known what became of it: again while there is no answer, and while it is refused for a while. */
  async insist(asked: Asked, until: () => boolean = () => false): Promise<Operation> {
    for (let count = 1; ; count += 1) {
      const operation = await this.ask(asked);
      const isRefused = operation.outcome === 'fail' && operation.retryAfter !== null;
      if ((operation.outcome !== 'unknown' && !isRefused) || count === tries || until()) return operation;
      await delay(pauseMs);
    }
  }

  async #send(operation: Operation, asked: Asked, body: string | null): Promise<void> {
    const leaving = new AbortController();
    const { url } = this.#world.node(this.#dice);
    const response = await fetch(`${url}/api/claude/${asked.path}`, {
      method: asked.method ?? (body === null ? 'GET' : 'POST'),
      headers: {
        authorization: `Bearer ${this.#world.keys[this.tenant]}`,
        ...(body !== null && { 'content-type': 'application/json' }),
        ...(asked.key !== undefined && { 'idempotency-key': asked.key }),
        ...(asked.streams && { accept: 'text/event-stream' }),
      },
      signal: AbortSignal.any([leaving.signal, AbortSignal.timeout(longestMs)]),
      ...(body !== null && { body }),
    });
    operation.status = response.status;
    operation.retryAfter = response.headers.get('retry-after');
    if (response.ok && response.headers.get('content-type')?.startsWith('text/event-stream')) {
      const isWhole = await hear(response, operation, asked, () => {
        operation.left = true;
        leaving.abort();
      });
      operation.outcome = isWhole ? 'ok' : 'unknown';
      return;
    }
    operation.received = await response.text();
    operation.outcome = response.ok ? 'ok' : 'fail';
    if (!response.ok) operation.code = codeOf(operation.received);
  }
}

function codeOf(text: string): string | null {
  try {
    return ((JSON.parse(text) as Record<string, unknown>)['code'] as string | undefined) ?? null;
  } catch {
    return null;
  }
}

/** The stream ends although what it follows may go on. */
const isBroken = (event: StreamEvent): boolean => event.type === 'status' && event.status === 'stream_failed';

/** Reads events until they end or the client leaves. Gives whether that was a good end. */
async function hear(response: Response, operation: Operation, { heard }: Asked, leave: () => void): Promise<boolean> {
  let rest = '';
  for await (const chunk of (response.body ?? new ReadableStream<Uint8Array>()).pipeThrough(new TextDecoderStream())) {
    const frames = (rest + chunk).split('\n\n');
    rest = frames.pop() ?? '';
    for (const frame of frames) {
      const data = /^data: (.*)$/mu.exec(frame)?.[1];
      if (data === '[DONE]') return !operation.events.some(({ event }) => isBroken(event));
      if (data === undefined) continue;
      const told = { id: /^id: (.*)$/mu.exec(frame)?.[1] ?? null, event: JSON.parse(data) as StreamEvent };
      operation.events.push(told);
      if (heard?.(told, operation.events.length) !== true) continue;
      leave();
      return true;
    }
  }
  return false;
}
