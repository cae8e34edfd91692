import { setImmediate } from 'node:timers/promises';
import { WebSocket } from 'ws';

/** Bytes that may wait for a reader before nothing more is taken for it. */
export const maxUnsentBytes = 262_144;

/** Code of the close of a reader that is too slow; it can come back and go on. */
const tryAgainLater = 1013;

const text = { binary: false };

/** Lets everybody else have the event loop after each number of steps, also when no step waits for anything. */
export function pacer(steps: number): () => Promise<void> | undefined {
  let taken = 0;
  return () => ((taken += 1) % steps === 0 ? setImmediate() : undefined);
}

/** What sends through an outbox whenever there is room. */
interface Sources {
  goOn(): void;
  /** The reader is too slow, and is sent no more. */
  stopAll(): void;
}

/** What there is while there is no room. */
interface Waiting {
  readonly stalled: NodeJS.Timeout;
  readonly room: PromiseWithResolvers<void>;
}

/**
 * What leaves through a socket: in order, and no more at a time than `maxUnsentBytes` and one frame. A reader that does
 * not make room within `stallMs` milliseconds is closed with 1013.
 */
export class Outbox {
  readonly #socket: WebSocket;
  readonly #stallMs: number;
  readonly #sources: Sources;
  /** Null: there is room. */
  #waiting: Waiting | null = null;

  /** `sources` go on each time that there is room again. */
  constructor(socket: WebSocket, stallMs: number, sources: Sources) {
    this.#socket = socket;
    this.#stallMs = stallMs;
    this.#sources = sources;
  }

  /** True when nothing waits for the reader. */
  get empty(): boolean {
    return this.#socket.bufferedAmount === 0;
  }

  /** Sends a frame at once, if the socket is open. False when it is the last one before the sources go on, or of all. */
  push(frame: Buffer): boolean {
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    if (this.#socket.bufferedAmount + frame.length <= maxUnsentBytes) {
      this.#socket.send(frame, text);
      return true;
    }
    this.#waiting ??= this.#wait();
    this.#socket.send(frame, text, () => {
      if (this.#socket.bufferedAmount <= maxUnsentBytes) this.#made();
    });
    return false;
  }

  /** Sends a frame once there is room for it. */
  async send(frame: Buffer): Promise<void> {
    while (this.#waiting) await this.#waiting.room.promise;
    this.push(frame);
  }

  /** Nobody takes anything any more. */
  close(): void {
    this.#made();
  }

  #wait(): Waiting {
    const stalled = setTimeout(() => {
      this.#socket.close(tryAgainLater, 'the reader is too slow');
      this.#sources.stopAll();
      this.#made();
    }, this.#stallMs);
    return { stalled, room: Promise.withResolvers<void>() };
  }

  #made(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    this.#waiting = null;
    clearTimeout(waiting.stalled);
    waiting.room.resolve();
    if (this.#socket.readyState === WebSocket.OPEN) this.#sources.goOn();
  }
}
