import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startNginx, type Nginx } from './nginx.ts';
import { nodesOn, type TestNode, type TestNodes } from './nodes.ts';
import type { PostgresServer } from './postgres.ts';
import type { RedisServer } from './redis.ts';
import { eventsIn, joined, until, type Streamed } from './runs.ts';
import { userKey } from './service.ts';

type Events = Streamed['events'];

const headers = { authorization: `Bearer ${userKey}` };

/** Two nodes on one Postgres and one Redis, with nginx before them. */
export interface Cluster {
  readonly nodes: TestNodes;
  readonly nginx: Nginx;
  /** The node of that name as it runs now. */
  node(name: 'a' | 'b'): TestNode;
  /** Has a node that has ended run again, where it was. */
  startAgain(name: 'a' | 'b'): Promise<void>;
}

export async function clusterOn(
  t: TestContext,
  postgres: PostgresServer,
  redis: RedisServer,
  name: string,
  leaseSeconds: number,
): Promise<Cluster> {
  const nodes = await nodesOn(t, postgres, name, leaseSeconds);
  // Nothing is cut on a machine that is only slow.
  const env = { REDIS_URL: redis.url, SALLYPORT_TRUSTED_PROXIES: '127.0.0.1', SALLYPORT_DRAIN_SECONDS: '600' };
  const running = { a: await nodes.start('a', env), b: await nodes.start('b', env) };
  const nginx = await startNginx([running.a, running.b].map(({ url }) => new URL(url).host));
  t.after(() => nginx.close());
  return {
    nodes,
    nginx,
    node: (which) => running[which],
    async startAgain(which) {
      running[which] = await nodes.start(which, { ...env, SALLYPORT_PORT: new URL(running[which].url).port });
    },
  };
}

/** Follows a conversation as a client does: where its stream is lost, it reads on after the last id it has seen. */
export class Reader {
  readonly events: Events[number][] = [];
  /** Ids after which it read on. */
  readonly resumed: string[] = [];
  /** Becomes true when the conversation is over. */
  over = false;
  readonly #leave = new AbortController();
  readonly #done: Promise<void>;

  /** Leaves when the test ends, if it has not left. */
  constructor(t: TestContext, service: { readonly url: string }, id: string, after?: string) {
    t.after(() => this.leave());
    this.#done = this.#follow(`${service.url}/api/claude/conversation/${id}/events`, after);
  }

  get text(): string {
    return joined(this);
  }

  /** Results that have come. */
  get ends(): Events {
    return this.events.filter(({ event }) => event.type === 'result');
  }

  /** Waits until so many turns have ended. */
  async turns(count: number): Promise<void> {
    await until(() => this.ends.length >= count);
  }

  async leave(): Promise<void> {
    this.#leave.abort();
    await this.#done;
  }

  async #follow(url: string, after: string | undefined): Promise<void> {
    const { signal } = this.#leave;
    while (!signal.aborted && !this.over) {
      const last = this.events.at(-1)?.id ?? after;
      if (this.events.length > 0 && last) this.resumed.push(last);
      try {
        const response = await fetch(url, { headers: { ...headers, ...(last && { 'last-event-id': last }) }, signal });
        if (response.ok) await this.#take(response);
        // Its node is gone, or stops.
        else assert.ok([502, 503].includes(response.status), `${response.status}: ${await response.text()}`);
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
      }
      if (!signal.aborted) await sleep(50);
    }
  }

  async #take(response: Response): Promise<void> {
    let rest = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      const end = (rest + chunk).lastIndexOf('\n\n') + 2;
      const whole = (rest + chunk).slice(0, Math.max(end, 0));
      rest = (rest + chunk).slice(whole.length);
      this.events.push(...eventsIn(whole));
      this.over ||= whole.includes('data: [DONE]');
    }
  }
}

/** Asks as a client does that wants it done once: it asks again, with its key, while no node can take it or has answered. */
export async function askOnce(service: { readonly url: string }, path: string, body: unknown, key: string) {
  const retried: number[] = [];
  for (;;) {
    const sent = await fetch(`${service.url}/api/claude/${path}`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(body),
    }).catch(() => null);
    const answer = sent && { status: sent.status, text: await sent.text().catch(() => null), headers: sent.headers };
    const isLost = answer === null || answer.text === null || answer.status === 502;
    const isInProgress = answer?.status === 409 && answer.text?.includes('idempotency_in_progress') === true;
    const isNotReady = answer?.status === 503 && answer.text?.includes('not_ready') === true;
    if (!isLost && !isInProgress && !isNotReady) {
      return { status: answer.status, body: JSON.parse(answer.text ?? '') as Record<string, any>, retried };
    }
    if (isNotReady) assert.match(answer.headers.get('retry-after') ?? '', /^\d+$/u, 'it is said when to ask again');
    retried.push(answer?.status ?? 0);
    await sleep(200);
  }
}
