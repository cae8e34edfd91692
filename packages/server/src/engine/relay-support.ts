import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { startOfLog, type Cursor, type LogEvent, type LogEventBody, type StreamItem } from '@sallyport/protocol';
import { openStores, type Stores } from '../stores/stores.ts';
import { aDirectory } from '../testing/directory.ts';
import { anAccept, anEnd } from '../testing/turns.ts';
import { systemClock, type Clock } from './clock.ts';
import { follow } from './follow.ts';
import { LiveLogs, type LiveLog } from './live.ts';
import type { Bus, ConversationHead, TurnRef, TurnStore } from './ports.ts';
import { asksChannel } from './relay-messages.ts';
import { Relay } from './relay.ts';
import type { Followed } from './relay-tail.ts';
import { TurnLog, type LogWriter } from './turn-log.ts';

/** A message on its way. */
export interface Sent {
  readonly channel: string;
  readonly text: string;
}

/** Brings messages between nodes in order, each a bit later, and loses those it is told to lose. */
export class Hub {
  /** What was sent, lost or not. */
  readonly sent: Sent[] = [];
  loses: (sent: Sent) => boolean = () => false;
  readonly #nodes = new Set<Map<string, Set<(text: string) => void>>>();
  readonly #gaps = new Set<() => void>();

  join(): Bus {
    const listeners = new Map<string, Set<(text: string) => void>>();
    this.#nodes.add(listeners);
    return {
      publish: (channel, text) => {
        this.sent.push({ channel, text });
        if (this.loses({ channel, text })) return;
        setImmediate(() => {
          for (const other of this.#nodes) {
            if (other === listeners) continue;
            for (const listener of other.get(channel) ?? []) listener(text);
          }
        });
      },
      subscribe(channel, listener) {
        const those = listeners.get(channel) ?? new Set();
        listeners.set(channel, those.add(listener));
        return () => void those.delete(listener);
      },
      onGap: (listener) => {
        this.#gaps.add(listener);
        return () => void this.#gaps.delete(listener);
      },
    };
  }

  gap(): void {
    for (const listener of this.#gaps) listener();
  }
}

/** What nodes have in common. */
export interface Common {
  readonly hub: Hub;
  readonly turns: LogWriter & Pick<TurnStore, 'read'>;
  readonly heads: (tenant: string, ids: readonly string[]) => Promise<ConversationHead[]>;
  readonly clock?: Clock;
}

/** A node of which there is no more than what follows conversations and tells of them. */
export class RelayNode {
  readonly relay: Relay;
  readonly logs = new LiveLogs();
  readonly #common: Common;
  readonly #running = new Map<string, () => void>();

  constructor(common: Common) {
    this.#common = common;
    const { hub, turns, heads, clock = systemClock } = common;
    const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
    const runsHere = (tenant: string, id: string) => this.#running.has(`${tenant} ${id}`);
    const conversations = { heads };
    this.relay = new Relay({ bus: hub.join(), turns, conversations, clock, logger: silent, logs: this.logs, runsHere });
    this.relay.start();
  }

  /** Begins to run a turn. Events that its acceptance committed are published. */
  run(ref: TurnRef, accepted: readonly LogEvent[] = []): { log: TurnLog; live: LiveLog } {
    const { tenant, conversation } = ref;
    const live = this.logs.acquire(tenant, conversation);
    const log = new TurnLog(this.#common.turns, systemClock, ref, live, { actor: 'key', configuration: 'c' });
    this.relay.began(tenant, conversation);
    for (const event of accepted) live.event(event);
    this.#running.set(`${tenant} ${conversation}`, () => this.logs.release(tenant, conversation));
    return { log, live };
  }

  /** The turn runs here no more. */
  rest({ tenant, conversation }: TurnRef): void {
    this.#running.get(`${tenant} ${conversation}`)?.();
    this.#running.delete(`${tenant} ${conversation}`);
  }

  /** The wire events after a cursor, to the `result`. */
  async *read(followed: Followed, after: Cursor): AsyncGenerator<StreamItem, void, undefined> {
    const { tenant, id: conversation } = followed;
    const live = this.logs.acquire(tenant, conversation);
    const leave = this.relay.follow(followed, live);
    const isLast = ({ body }: LogEvent) => body.type === 'result';
    try {
      yield* follow({ store: this.#common.turns, tenant, conversation, live, wait: true, isLast }, after);
    } finally {
      leave();
      this.logs.release(tenant, conversation);
    }
  }
}

/** The blocks of a log that stand, joined: what whoever reads it has in the end. */
export function standing(log: readonly LogEvent[]): { content: string; thinking: string } {
  let blocks: LogEventBody[] = [];
  let mark = 0;
  for (const { body } of log) {
    if (body.type === 'text' || body.type === 'thinking') blocks.push(body);
    else if (body.type === 'restart') blocks = blocks.slice(0, mark);
    else mark = blocks.length;
    if (body.type === 'restart') mark = blocks.length;
  }
  const of = (type: 'text' | 'thinking') =>
    blocks.map((body) => (body.type === type ? (body.type === 'text' ? body.text : body.thinking) : '')).join('');
  return { content: of('text'), thinking: of('thinking') };
}

/** What a user has said. */
export const message = { type: 'user_message' as const, text: 'q', message_uuid: 'u' };

/** Two nodes over one database, whose time stands still until it is moved. */
export async function twoNodes(t: TestContext, heads?: (stores: Stores) => Common['heads']) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const stores = await openStores({ dataDir: aDirectory(t), clock: systemClock });
  t.after(() => stores.close());
  const hub = new Hub();
  let now = 0;
  const clock = { now: () => 0, monotonic: () => now };
  const asked = heads?.(stores) ?? ((...args) => stores.conversations.heads(...args));
  const common = { hub, turns: stores.turns, heads: asked, clock };
  const [one, other] = [new RelayNode(common), new RelayNode(common)];
  t.after(() => {
    one.relay.close();
    other.relay.close();
  });
  /** What was told of conversations. */
  const told = () => hub.sent.filter(({ channel }) => channel !== asksChannel);
  const later = (seconds: number) => void (now += seconds * 1000);
  /** Begins a turn on the first node. */
  const begin = async (id: string, tenant = 'default') => {
    const { ref, events } = await stores.turns.accept(anAccept(id, tenant, [message]));
    return { ref, ...one.run(ref, events) };
  };
  /** Follows on the second node from the beginning, and gives what has come. */
  const followed = async (id: string, tenant = 'default') => {
    const conversation = await stores.conversations.get(tenant, id);
    assert.ok(conversation);
    const items: StreamItem[] = [];
    const reader = other.read(conversation, startOfLog);
    const done = (async () => {
      for await (const item of reader) items.push(item);
    })();
    return { items, done };
  };
  /** Ends a turn; whoever has not heard of it finds it with the next look. */
  const finish = async ({ log, ref }: Awaited<ReturnType<typeof begin>>) => {
    await log.finish(anEnd);
    one.rest(ref);
    await other.relay.tick();
  };
  return { stores, hub, one, other, told, later, begin, followed, finish };
}
