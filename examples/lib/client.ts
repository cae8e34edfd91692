import { setTimeout as sleep } from 'node:timers/promises';
import type { StreamEvent } from '@sallyport/protocol';

/** How often in a row a lost stream is asked for again. */
const maxTries = 10;

/** Where the service answers, and with which key. The address is asked for each time: it may move. */
export interface Server {
  readonly url: string;
  readonly key: string;
}

/** A request of the API. Rejects with what the service says is wrong, unless it went well. */
export async function call(
  server: Server,
  method: string,
  path: string,
  { body, headers }: { readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> | undefined } = {},
): Promise<Response> {
  const response = await fetch(`${server.url}/api/claude/${path}`, {
    method,
    headers: {
      authorization: `Bearer ${server.key}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response;
}

export async function getJson<T>(server: Server, path: string): Promise<T> {
  return (await (await call(server, 'GET', path)).json()) as T;
}

/** Server-sent events: blocks of lines with an empty line between them. The last block is `data: [DONE]`. */
async function* eventsOf(response: Response): AsyncGenerator<{ cursor: string; event: StreamEvent }> {
  let rest = '';
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    const blocks = (rest + chunk).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const [, cursor, data] = /^id: (.*)\ndata: (.*)$/u.exec(block) ?? []; // else a comment, which keeps the line alive
      if (cursor && data) yield { cursor, event: JSON.parse(data) as StreamEvent };
    }
  }
}

/** A conversation as a client holds it: it knows the conversation's id, and how far it has read. */
export class Conversation {
  readonly #server: Server;
  readonly #id: string;
  #cursor: string | null = null;

  constructor(server: Server, id: string) {
    this.#server = server;
    this.#id = id;
  }

  /** The place of the last event that was seen. */
  get cursor(): string | null {
    return this.#cursor;
  }

  /** Says the first thing. The settings given here hold for all turns. */
  start(request: { readonly prompt: string; readonly [setting: string]: unknown }): AsyncGenerator<StreamEvent> {
    return this.#turn(`conversation/start?session_id=${this.#id}`, request);
  }

  /** Says the next thing. */
  say(message: string): AsyncGenerator<StreamEvent> {
    return this.#turn(`conversation/${this.#id}/continue`, { session_id: this.#id, message });
  }

  /**
   * The events of a turn. Where the connection is lost, the turn goes on without us, and we read on after the last cursor
   * we have seen: nothing comes twice, nothing is missing.
   */
  async *#turn(path: string, body: unknown): AsyncGenerator<StreamEvent> {
    let response = await call(this.#server, 'POST', path, { body, headers: { accept: 'text/event-stream' } });
    for (let tries = 0; tries < maxTries; tries += 1) {
      try {
        for await (const { cursor, event } of eventsOf(response)) {
          this.#cursor = cursor;
          tries = 0;
          yield event;
          if (event.is_complete) return;
        }
      } catch (error) {
        if (!isLost(error)) throw error;
      }
      response = await this.#readOn();
    }
    throw new Error('the stream was lost too often');
  }

  async #readOn(): Promise<Response> {
    const headers = this.#cursor === null ? undefined : { 'last-event-id': this.#cursor };
    for (let tries = 1; ; tries += 1) {
      try {
        return await call(this.#server, 'GET', `conversation/${this.#id}/events`, { headers });
      } catch (error) {
        if (!isLost(error) || tries === maxTries) throw error;
        await sleep(500);
      }
    }
  }
}

/** `fetch` throws a `TypeError` when a connection is refused or cut. Whatever else fails will fail again. */
const isLost = (error: unknown): boolean => error instanceof TypeError;
