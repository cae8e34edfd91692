import { setImmediate } from 'node:timers/promises';
import { WebSocket } from 'ws';

/** Bytes that may wait for a reader before nothing more is taken for it. */
export const maxUnsentBytes = 262_144;

/** Code of the close of a reader that is too slow; it can come back and go on. */
const tryAgainLater = 1013;

/** Lets everybody else have the event loop after each number of steps, also when no step waits for anything. */
export function pacer(steps: number): () => Promise<void> | undefined {
  let taken = 0;
  return () => ((taken += 1) % steps === 0 ? setImmediate() : undefined);
}

/**
 * What leaves through a socket: in order, and no more at a time than `maxUnsentBytes` and one frame. A reader that does
 * not make room within `stallMs` milliseconds is closed with 1013.
 */
export class Outbox {
  readonly #socket: WebSocket;
  readonly #stallMs: number;
  readonly #pace = pacer(64);
  /** Resolves when there is room, or nobody to make room for. */
  #room: Promise<void> | null = null;
  #made = (): void => undefined;

  constructor(socket: WebSocket, stallMs: number) {
    this.#socket = socket;
    this.#stallMs = stallMs;
    socket.once('close', () => this.#made());
  }

  /** True when nothing waits for the reader. */
  get empty(): boolean {
    return this.#socket.bufferedAmount === 0;
  }

  /** Sends a frame once there is room for it. False when the socket closed, or `left` was aborted, before that. */
  async send(frame: string | Buffer, left?: AbortSignal): Promise<boolean> {
    await this.#pace();
    while (this.#isFull) await (this.#room ??= this.#waitForRoom());
    if (this.#socket.readyState !== WebSocket.OPEN || left?.aborted) return false;
    this.#socket.send(frame, { binary: false }, () => {
      if (!this.#isFull) this.#made();
    });
    return true;
  }

  get #isFull(): boolean {
    return this.#socket.readyState === WebSocket.OPEN && this.#socket.bufferedAmount > maxUnsentBytes;
  }

  async #waitForRoom(): Promise<void> {
    const stalled = setTimeout(() => {
      this.#socket.close(tryAgainLater, 'the reader is too slow');
      this.#made();
    }, this.#stallMs);
    await new Promise<void>((resolve) => (this.#made = resolve));
    clearTimeout(stalled);
    this.#room = null;
  }
}
