import { claudeResponse, formatCursor, type Cursor, type StreamItem } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type { Outbox } from './socket-outbox.ts';
import { Puller } from './sse.ts';

/** Most conversations that one socket follows. */
export const maxFollowed = 16;

const longestWaitMs = 2_147_483_647;

const frames = new WeakMap<StreamItem, Buffer>();

/** The bytes of an event's frame, made once however many sockets get the same item. */
function bytesOf(sessionId: string, item: StreamItem): Buffer {
  const made = frames.get(item);
  if (made) return made;
  const bytes = Buffer.from(JSON.stringify(claudeResponse(sessionId, item)));
  frames.set(item, bytes);
  return bytes;
}

/** What becomes known of a conversation that is followed, besides its events. */
export interface FollowerHost {
  /** The conversation has ended, or is not there any more. */
  ended(sessionId: string): Promise<void>;
  /** Following broke off; the conversation goes on. */
  failed(sessionId: string, thrown: unknown): Promise<void>;
}

interface Follower {
  readonly stop: AbortController;
  /** After what was sent last. */
  cursor: Cursor | null;
  /** True while a turn runs, as far as the socket was told. */
  busy: boolean;
  /** Messages of this socket that the log has not told yet: who said them needs no echo. */
  readonly said: string[];
}

/** The conversations that one socket follows: each at most once, and at most `maxFollowed` of them. */
export class Followers {
  readonly #outbox: Outbox;
  readonly #host: FollowerHost;
  /** Those used longest ago come first. */
  readonly #followed = new Map<string, Follower>();

  constructor(outbox: Outbox, host: FollowerHost) {
    this.#outbox = outbox;
    this.#host = host;
  }

  get size(): number {
    return this.#followed.size;
  }

  has(sessionId: string): boolean {
    return this.#followed.has(sessionId);
  }

  /** Throws `overloaded` when the conversation is not followed and as many as may be are, with a turn running in each. */
  checkRoom(sessionId: string | null): void {
    if (this.#followed.size < maxFollowed || (sessionId !== null && this.has(sessionId)) || this.#idle() !== null)
      return;
    const detail = 'Turns run in all conversations that this socket follows. Wait for one or open another socket.';
    throw new SallyportError('overloaded', { detail });
  }

  /** The one without a running turn that was used longest ago. */
  #idle(): string | null {
    return [...this.#followed].find(([, { busy }]) => !busy)?.[0] ?? null;
  }

  /**
   * Follows a conversation by its events, instead of as before. Aborting `stop` must end them. One that is too many takes
   * the place of an idle one. Ask `checkRoom` first.
   */
  follow(sessionId: string, items: AsyncIterable<StreamItem>, from: Pick<Follower, 'stop' | 'cursor' | 'busy'>): void {
    this.stop(sessionId);
    const idle = this.#followed.size < maxFollowed ? null : this.#idle();
    if (idle !== null) this.stop(idle);
    const follower: Follower = { ...from, said: [] };
    this.#followed.set(sessionId, follower);
    void this.#tail(sessionId, follower, items);
  }

  /** Says that a message is about to be sent in a conversation. Gives what takes that back when it was not. */
  saying(sessionId: string, message: string): () => void {
    const follower = this.#followed.get(sessionId);
    if (!follower) return () => undefined;
    this.#followed.delete(sessionId);
    this.#followed.set(sessionId, follower); // used just now
    const { busy } = follower;
    follower.busy = true;
    follower.said.push(message);
    return () => {
      follower.said.pop();
      follower.busy = busy;
    };
  }

  /** Stops following. False when it was not followed. */
  stop(sessionId: string): boolean {
    this.#followed.get(sessionId)?.stop.abort();
    return this.#followed.delete(sessionId);
  }

  /** Stops following all, and gives for each the cursor to go on after; null: from the beginning. */
  stopAll(): Record<string, string | null> {
    const cursors = [...this.#followed].map(([id, { cursor }]) => [id, cursor && formatCursor(cursor)] as const);
    for (const [id] of cursors) this.stop(id);
    return Object.fromEntries(cursors);
  }

  async #tail(sessionId: string, follower: Follower, items: AsyncIterable<StreamItem>): Promise<void> {
    const left = follower.stop.signal;
    const puller = new Puller(items, left);
    const stopped = () => this.#followed.get(sessionId) !== follower;
    try {
      if ((await this.#send(sessionId, follower, puller)) === 'left' || stopped()) return;
      this.stop(sessionId);
      await this.#host.ended(sessionId);
    } catch (thrown) {
      if (stopped()) return;
      this.stop(sessionId);
      const { code } = SallyportError.from(thrown);
      const isGone = code === 'conversation_not_found' || code === 'gone';
      await (isGone ? this.#host.ended(sessionId) : this.#host.failed(sessionId, thrown));
    } finally {
      puller.close();
    }
  }

  /** Sends the events as fast as the reader takes them: the next one is asked for when this one was taken. */
  async #send(sessionId: string, follower: Follower, puller: Puller<StreamItem>): Promise<'end' | 'left'> {
    for (;;) {
      const pulled = await puller.next(longestWaitMs);
      if (pulled.kind === 'silence') continue;
      if (pulled.kind !== 'item') return pulled.kind;
      const { value: item } = pulled;
      follower.busy = !item.event.is_complete;
      const isEcho = item.event.type === 'user_message' && follower.said[0] === item.event.content;
      if (isEcho) follower.said.shift();
      else if (!(await this.#outbox.send(bytesOf(sessionId, item), follower.stop.signal))) return 'left';
      follower.cursor = item.cursor;
    }
  }
}
