import { claudeResponse, formatCursor, startOfLog, type Cursor, type StreamItem } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type { Feed, Following, Reader } from '../engine/feed.ts';
import type { Outbox } from './socket-outbox.ts';

/** Most conversations that one socket follows. */
export const maxFollowed = 16;

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
  readonly outbox: Outbox;
  /** The conversation has ended, or is not there any more. */
  ended(sessionId: string): Promise<void>;
  /** Following broke off; the conversation goes on. */
  failed(sessionId: string, thrown: unknown): Promise<void>;
}

/** How a conversation is followed. */
export interface Follow {
  readonly feed: Feed;
  /** After what the client has; null: it has nothing. */
  readonly cursor: Cursor | null;
  /** True while a turn runs, as far as the socket was told. */
  readonly busy: boolean;
  /** What is followed after the end of the feed; null: nothing. */
  readonly next: ((after: Cursor) => Promise<Feed>) | null;
}

/** One conversation that a socket follows: sends its events as fast as the client takes them. */
class Follower implements Reader {
  readonly sessionId: string;
  readonly #followers: Followers;
  #following: Following | null = null;
  #next: Follow['next'];
  #stopped = false;
  /** After what was sent last. */
  cursor: Cursor | null;
  busy: boolean;
  /** Messages of this socket that the log has not told yet: who said them needs no echo. */
  said: string[] | null = null;

  constructor(followers: Followers, sessionId: string, { cursor, busy, next }: Follow) {
    this.#followers = followers;
    this.sessionId = sessionId;
    this.cursor = cursor;
    this.busy = busy;
    this.#next = next;
  }

  follow(feed: Feed): void {
    const following = feed.follow(this);
    if (this.#stopped) following.stop();
    else this.#following = following;
  }

  stop(): void {
    this.#stopped = true;
    this.#following?.stop();
  }

  goOn(): void {
    this.#following?.goOn();
  }

  take(item: StreamItem): boolean {
    const { event, cursor } = item;
    this.busy = !event.is_complete;
    this.cursor = cursor;
    const isEcho = event.type === 'user_message' && this.said?.[0] === event.content;
    if (isEcho) this.said?.shift();
    return isEcho || this.#followers.host.outbox.push(bytesOf(this.sessionId, item));
  }

  end(): void {
    const next = this.#next;
    if (!next) {
      this.#followers.over(this, null);
      return;
    }
    this.#next = null;
    this.#following = null;
    next(this.cursor ?? startOfLog).then(
      (feed) => this.#stopped || this.follow(feed),
      (error: unknown) => this.#stopped || this.fail(error),
    );
  }

  fail(thrown: unknown): void {
    this.#followers.over(this, { thrown });
  }
}

/** The conversations that one socket follows: each at most once, and at most `maxFollowed` of them. */
export class Followers {
  readonly host: FollowerHost;
  /** Those used longest ago come first. */
  #followed: readonly Follower[] = [];

  constructor(host: FollowerHost) {
    this.host = host;
  }

  has(sessionId: string): boolean {
    return this.#of(sessionId) !== undefined;
  }

  /** Throws `overloaded` when the conversation is not followed and as many as may be are, with a turn running in each. */
  checkRoom(sessionId: string | null): void {
    if (this.#followed.length < maxFollowed || (sessionId !== null && this.has(sessionId)) || this.#idle()) return;
    const detail = 'Turns run in all conversations that this socket follows. Wait for one or open another socket.';
    throw new SallyportError('overloaded', { detail });
  }

  #of(sessionId: string): Follower | undefined {
    return this.#followed.find((follower) => follower.sessionId === sessionId);
  }

  /** The one without a running turn that was used longest ago. */
  #idle(): Follower | undefined {
    return this.#followed.find(({ busy }) => !busy);
  }

  /** Follows a conversation, instead of as before. One that is too many takes the place of an idle one. Ask `checkRoom` first. */
  follow(sessionId: string, how: Follow): void {
    this.stop(sessionId);
    const idle = this.#followed.length < maxFollowed ? undefined : this.#idle();
    if (idle) this.stop(idle.sessionId);
    const follower = new Follower(this, sessionId, how);
    this.#followed = this.#followed.concat(follower);
    follower.follow(how.feed);
  }

  /** Says that a message is about to be sent in a conversation. Gives what takes that back when it was not. */
  saying(sessionId: string, message: string): () => void {
    const follower = this.#of(sessionId);
    if (!follower) return () => undefined;
    this.#followed = [...this.#followed.filter((other) => other !== follower), follower]; // used just now
    const { busy } = follower;
    follower.busy = true;
    const said = (follower.said ??= []);
    said.push(message);
    return () => {
      said.pop();
      follower.busy = busy;
    };
  }

  /** There is room for more. */
  goOn(): void {
    for (const follower of this.#followed) follower.goOn();
  }

  /** Stops following. False when it was not followed. */
  stop(sessionId: string): boolean {
    const follower = this.#of(sessionId);
    if (follower) this.#drop(follower);
    return follower !== undefined;
  }

  /** Stops following all, and gives for each the cursor to go on after; null: from the beginning. */
  stopAll(): Record<string, string | null> {
    const cursors = this.#followed.map(({ sessionId, cursor }) => [sessionId, cursor && formatCursor(cursor)] as const);
    for (const follower of this.#followed) follower.stop();
    this.#followed = [];
    return Object.fromEntries(cursors);
  }

  /** A conversation can be followed no further. */
  over(follower: Follower, failure: { readonly thrown: unknown } | null): void {
    if (!this.#followed.includes(follower)) return;
    this.#drop(follower);
    const { sessionId } = follower;
    const code = failure && SallyportError.from(failure.thrown).code;
    const isGone = code === null || code === 'conversation_not_found' || code === 'gone';
    void (isGone ? this.host.ended(sessionId) : this.host.failed(sessionId, failure?.thrown));
  }

  #drop(follower: Follower): void {
    follower.stop();
    this.#followed = this.#followed.filter((other) => other !== follower);
  }
}
