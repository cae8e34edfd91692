import {
  parseCursor,
  socketRights,
  startOfLog,
  type Cursor,
  type ServerFrame,
  type SocketFrame,
  type SocketFrames,
  type SocketFrameType,
} from '@sallyport/protocol';
import type { FastifyBaseLogger } from 'fastify';
import type { WebSocket } from 'ws';
import type { Engine, RunningTurn } from '../engine/engine.ts';
import { SallyportError } from '../engine/errors.ts';
import type { KeyWatcher } from '../engine/keys.ts';
import { mayUse, type Principal } from '../engine/principal.ts';
import { errorFrame, readMessage, type About } from './socket-errors.ts';
import { Followers, type Follow, type FollowerHost } from './socket-followers.ts';
import type { Visitor } from './socket-admission.ts';
import { Outbox, pacer } from './socket-outbox.ts';
import { parsePart } from './validation.ts';

/** Heartbeats that a reader may take nothing for. */
const stallBeats = 4;
/** Pings without an answer after which a client is taken to be gone. */
const maxMissed = 2;

const goingAway = 1001;
const unsupportedData = 1003;
const policyViolation = 1008;

/** What all sessions of an app are made of. */
export interface SessionParts {
  readonly engine: Engine;
  readonly frames: SocketFrames;
  /** Gives the principal as it is now, and counts a frame. Rejects with `invalid_key`, or when it is one too many. */
  readonly admit: (who: Principal) => Promise<Principal>;
  readonly heartbeatMs: number;
  readonly logger: FastifyBaseLogger;
}

/** A socket that was opened. */
export interface Opened extends Visitor {
  readonly socket: WebSocket;
  /** Names the session in logs; its frames are numbered after it. */
  readonly requestId: string;
  /** By the clock that only grows. */
  readonly since: number;
}

type FrameOf<T extends SocketFrameType> = Extract<SocketFrame, { readonly type: T }>;

/**
 * One socket: works on its client's frames one after the other, and sends what happens in the conversations it follows
 * meanwhile. Nothing that runs depends on it.
 */
export class Session implements FollowerHost, KeyWatcher {
  readonly opened: Opened;
  readonly #parts: SessionParts;
  readonly outbox: Outbox;
  readonly #followers: Followers;
  /** What waits while a frame is worked on; null: none is. */
  #inbox: Buffer[] | null = null;
  #principal: Principal;
  #taken = 0;
  #missed = 0;
  /** What frames without a `session_id` are about. */
  #current: string | null = null;

  constructor(opened: Opened, parts: SessionParts) {
    this.opened = opened;
    this.#parts = parts;
    this.#principal = opened.principal;
    this.#followers = new Followers(this);
    this.outbox = new Outbox(opened.socket, stallBeats * parts.heartbeatMs, this.#followers);
  }

  /** The client has answered a ping. */
  pong(): void {
    this.#missed = 0;
  }

  /** The socket has closed. */
  closed(): void {
    this.#inbox = null;
    this.#followers.stopAll();
    this.outbox.close();
  }

  /** Frames that were taken, for logs. */
  get frames(): number {
    return this.#taken;
  }

  /** Says where to go on in each conversation, and closes. */
  goAway(): void {
    this.#close({ type: 'going_away', cursors: this.#followers.stopAll() }, goingAway, 'the service closes');
  }

  /** Says why the client may not be here any more, and closes. */
  keyGone(error: SallyportError): void {
    this.#followers.stopAll();
    const frame = errorFrame(error, { type: null, sessionId: null }, this.opened.requestId);
    this.#close(frame, policyViolation, 'the key is not valid any more');
  }

  #close(last: ServerFrame, code: number, reason: string): void {
    this.#inbox = null;
    this.opened.socket.send(JSON.stringify(last), () => undefined);
    this.opened.socket.close(code, reason);
  }

  /** Closes without a word, at once. */
  terminate(): void {
    this.opened.socket.terminate();
  }

  /** Pings the client, which is cut when it has answered none of two. */
  beat(): void {
    if (this.opened.socket.isPaused || !this.outbox.empty) return; // the answer would have to wait, here or there
    if (this.#missed >= maxMissed) {
      this.opened.socket.terminate();
      return;
    }
    this.#missed += 1;
    this.opened.socket.ping();
  }

  /** A frame has come. */
  receive(data: Buffer, isBinary: boolean): void {
    if (this.opened.socket.readyState !== this.opened.socket.OPEN) return;
    if (isBinary) {
      this.opened.socket.close(unsupportedData, 'frames are text');
      return;
    }
    this.#missed = 0;
    if (this.#inbox) {
      this.#inbox.push(data);
      this.opened.socket.pause(); // what came with this frame is still taken, and then no more
    } else {
      this.#inbox = [data];
      void this.#work();
    }
  }

  async #work(): Promise<void> {
    const pace = pacer(32);
    for (let bytes = this.#inbox?.shift(); bytes; bytes = this.#inbox?.shift()) {
      await pace();
      await this.#take(bytes);
    }
    this.#inbox = null;
    this.opened.socket.resume();
  }

  async #take(bytes: Buffer): Promise<void> {
    const { frames, admit } = this.#parts;
    this.#taken += 1;
    const id = `${this.opened.requestId}.${this.#taken}`;
    let about: About = { type: null, sessionId: null };
    try {
      this.#principal = await admit(this.#principal);
      const { type, message } = readMessage(frames, bytes);
      about = { type, sessionId: null };
      const frame: SocketFrame = parsePart(frames[type], message, 'body');
      if ('session_id' in frame) about = { type, sessionId: frame.session_id ?? null };
      const right = socketRights[type];
      if (right !== null && !mayUse(this.#principal, right)) throw new SallyportError('forbidden');
      await this.#handle(frame, id);
    } catch (thrown) {
      const error = SallyportError.from(thrown);
      if (error.code === 'invalid_key') this.keyGone(error);
      else await this.#refuse(error, about, id);
    }
  }

  async #handle(frame: SocketFrame, requestId: string): Promise<void> {
    const { engine } = this.#parts;
    switch (frame.type) {
      case 'start_conversation':
        return this.#start(frame, requestId);
      case 'send_message':
        return this.#say(frame, requestId);
      case 'end_conversation':
        return this.#end(frame);
      case 'resume':
        return this.#resume(frame);
      case 'interrupt':
        await engine.interrupt(this.#principal, this.#sessionOf(frame));
        return undefined;
      case 'approval': {
        const { type: _, approval_id, ...decision } = frame;
        await engine.decide(this.#principal, approval_id, decision);
        return undefined;
      }
      case 'answer': {
        const { question_id, answers } = frame;
        await engine.decide(this.#principal, question_id, { decision: 'allow', remember: 'none', answers });
        return undefined;
      }
      case 'ping':
        await this.#send({ type: 'pong' });
        return undefined;
    }
  }

  async #start(frame: FrameOf<'start_conversation'>, requestId: string): Promise<void> {
    const { engine } = this.#parts;
    const { type: _, session_id, ...request } = frame;
    this.#followers.checkRoom(null);
    const context = { requestId, idempotencyKey: null, sessionId: session_id ?? undefined };
    const turn = await engine.startConversation(this.#principal, request, context);
    this.#current = turn.conversation;
    await this.#send({ type: 'conversation_started', session_id: turn.conversation });
    this.#followTurn(turn);
  }

  async #say(frame: FrameOf<'send_message'>, requestId: string): Promise<void> {
    const { engine } = this.#parts;
    const id = this.#sessionOf(frame);
    this.#followers.checkRoom(id);
    const unsaid = this.#followers.saying(id, frame.message);
    try {
      const context = { requestId, idempotencyKey: null };
      const turn = await engine.continueConversation(this.#principal, id, frame.message, context);
      this.#current = id;
      if (!this.#followers.has(id)) this.#followTurn(turn);
    } catch (error) {
      unsaid();
      throw error;
    }
  }

  /** Deletes the conversation, as the client that ends one means. Ending none is no error. */
  async #end(frame: FrameOf<'end_conversation'>): Promise<void> {
    const { engine } = this.#parts;
    const id = frame.session_id ?? this.#current;
    if (id === null) {
      await this.#send({ type: 'conversation_ended', session_id: null });
      return;
    }
    const followed = this.#followers.has(id);
    await engine.deleteConversation(this.#principal, id);
    // One that was followed to its end has been told already.
    if (this.#followers.stop(id) || !followed) await this.ended(id);
  }

  async #resume({ session_id: id, after }: FrameOf<'resume'>): Promise<void> {
    const { engine } = this.#parts;
    const cursor = after === null || after === undefined ? startOfLog : parseCursor(after);
    if (!cursor) throw new SallyportError('bad_cursor');
    this.#followers.checkRoom(id);
    const feed = await engine.events(this.#principal, id, { after: cursor, follow: true });
    this.#current = id;
    this.#follow(id, { feed, cursor: after ? cursor : null, busy: false, next: null });
  }

  /** Follows a conversation from the turn that was just started, and then whatever else happens in it. */
  #followTurn(turn: RunningTurn): void {
    const { engine } = this.#parts;
    const principal = this.#principal;
    const next = (after: Cursor) => engine.events(principal, turn.conversation, { after, follow: true });
    this.#follow(turn.conversation, { feed: turn.events(), cursor: null, busy: true, next });
  }

  #follow(id: string, how: Follow): void {
    this.#followers.follow(id, how);
    // What became of the client while the engine worked on its frame.
    if (this.opened.socket.readyState !== this.opened.socket.OPEN) this.#followers.stop(id);
  }

  #sessionOf(frame: { readonly session_id?: string | null | undefined }): string {
    const id = frame.session_id ?? this.#current;
    if (id !== null) return id;
    const detail = 'This socket has no conversation yet. Start one, or name one by its session_id.';
    throw new SallyportError('conversation_not_found', { detail });
  }

  async ended(id: string): Promise<void> {
    if (this.#current === id) this.#current = null;
    await this.#send({ type: 'conversation_ended', session_id: id });
  }

  async failed(id: string, thrown: unknown): Promise<void> {
    await this.#refuse(thrown, { type: null, sessionId: id });
  }

  async #send(frame: ServerFrame): Promise<void> {
    await this.outbox.send(Buffer.from(JSON.stringify(frame)));
  }

  async #refuse(thrown: unknown, about: About, requestId = this.opened.requestId): Promise<void> {
    const error = SallyportError.from(thrown);
    const data = { request_id: requestId, code: error.code, frame: about.type };
    if (error.status >= 500) this.#parts.logger.error({ ...data, err: error.cause ?? error }, 'a frame failed');
    else this.#parts.logger.debug(data, 'a frame was refused');
    await this.#send(errorFrame(error, about, requestId));
  }
}
