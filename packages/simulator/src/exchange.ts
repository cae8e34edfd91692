import type { IncomingMessage, ServerResponse } from 'node:http';
import { setImmediate as nextTick, setTimeout as sleep } from 'node:timers/promises';
import type { Delivery } from './faults.ts';
import type { RecordedRequest } from './records.ts';
import type { Part } from './wire.ts';

/** Thrown inside an exchange whose client has left or whose simulator closes: nothing more can be sent. */
export class Gone extends Error {
  override name = 'Gone';
}

/** A body above the limit. */
export class TooLarge extends Error {
  override name = 'TooLarge';
}

/** Reads a whole body. @throws {TooLarge} above `limit` bytes, {Gone} if the client leaves. */
export async function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      // The rest is read but not kept, so that the client gets to read the answer; an endless body is not.
      if (bytes <= limit) chunks.push(chunk);
      else if (bytes > 4 * limit) request.destroy();
    }
  } catch {
    throw new Gone();
  }
  if (bytes > limit) throw new TooLarge();
  return Buffer.concat(chunks);
}

/** One request and its answer. Settles its record exactly once, before the client can see the last byte. */
export class Exchange {
  readonly response: ServerResponse;
  readonly record: RecordedRequest;
  readonly #left = new AbortController();
  readonly #onSettled: (exchange: Exchange) => void;

  constructor(response: ServerResponse, record: RecordedRequest, onSettled: (exchange: Exchange) => void) {
    this.response = response;
    this.record = record;
    this.#onSettled = onSettled;
    response.once('close', () => {
      this.settle('client_left');
      this.#left.abort();
    });
    // A write to a socket that is just going away; 'close' follows.
    response.on('error', () => {});
  }

  settle(outcome: RecordedRequest['outcome']): void {
    if (this.record.outcome !== 'pending') return;
    this.record.outcome = outcome;
    this.record.finishedAt = Date.now();
    this.#onSettled(this);
  }

  /** Waits. @throws {Gone} as soon as the client leaves. */
  async pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#left.signal }).catch(() => {
      throw new Gone();
    });
  }

  /** @throws {Gone} when the client leaves, never returns before. */
  async silence(): Promise<never> {
    if (!this.#left.signal.aborted) {
      await new Promise((resolve) => this.#left.signal.addEventListener('abort', resolve, { once: true }));
    }
    throw new Gone();
  }

  /** Ends without a clean end. */
  destroy(): void {
    this.settle('faulted');
    this.response.destroy();
  }

  /** Sends an answer at `rate` tokens of 4 characters per second. @throws {Gone} when the client leaves. */
  async deliver(delivery: Delivery, rate: number, outcome: 'answered' | 'faulted'): Promise<void> {
    if (delivery.parts) {
      this.response.writeHead(delivery.status, delivery.headers);
      this.response.flushHeaders();
      const started = performance.now();
      let chars = 0;
      for (const part of delivery.parts) {
        chars += part.chars;
        const due = part.chars === 0 ? 0 : started + (chars / 4 / rate) * 1000;
        const wait = due - performance.now();
        if (wait > 1) await this.pause(wait);
        await this.#write(part, delivery.byteWise);
      }
    }
    if (delivery.ending === 'silence') await this.silence();
    if (delivery.ending === 'destroy') return this.destroy();
    this.settle(outcome);
    this.response.end();
  }

  async #write(part: Part, byteWise: boolean): Promise<void> {
    if (byteWise) this.response.socket?.setNoDelay(true);
    const bytes = Buffer.from(part.bytes);
    for (const piece of byteWise ? Array.from(bytes, (byte) => Buffer.from([byte])) : [bytes]) {
      if (this.#left.signal.aborted) throw new Gone();
      await this.#flushed(piece);
      // Lets the byte leave on its own.
      if (byteWise) await nextTick();
    }
  }

  /**
   * Resolves when the bytes have left this process, so that what was written before a cut arrives. Node may never call
   * back for a socket that closes meanwhile.
   */
  async #flushed(bytes: Buffer): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const { signal } = this.#left;
      const left = () => reject(new Gone());
      signal.addEventListener('abort', left, { once: true });
      this.response.write(bytes, (error) => {
        signal.removeEventListener('abort', left);
        if (error) left();
        else resolve();
      });
    });
  }
}
