import { Transform, type Readable, type TransformCallback } from 'node:stream';
import type { FastifyReply } from 'fastify';

/** RFC 5987: what of a name stands as it is. */
const encoded = (name: string): string =>
  encodeURIComponent(name).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

/** The headers of an answer that is a file: it is kept, never shown or run. The name may be any text. */
export function attachmentHeaders(type: string, name: string): Record<string, string> {
  const plain = name.replaceAll(/[^\w.-]/g, '_');
  return {
    'content-type': type,
    'content-disposition': `attachment; filename="${plain}"; filename*=UTF-8''${encoded(name.toWellFormed())}`,
    'content-security-policy': 'sandbox',
    'x-content-type-options': 'nosniff',
  };
}

/** Answers with bytes as they come. They are closed, and it throws `invalid_key`, when the key of their reader is gone. */
export function sendBytes(reply: FastifyReply, bytes: Readable): FastifyReply {
  const { keyGone } = reply.request;
  if (keyGone?.aborted) bytes.destroy();
  keyGone?.throwIfAborted();
  return reply.send(bytes);
}

/**
 * Passes exactly the announced number of bytes: what a file has grown by is left out, and one that has shrunk fails, as
 * nobody could tell that the rest is missing.
 */
export class ExactSize extends Transform {
  #left: number;

  constructor(bytes: number) {
    super();
    this.#left = bytes;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const part = chunk.subarray(0, this.#left);
    this.#left -= part.length;
    done(null, part.length > 0 ? part : undefined);
  }

  override _flush(done: TransformCallback): void {
    done(this.#left > 0 ? new Error('a file became shorter while it was read') : null);
  }
}
