import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { KeyRing } from '../engine/keys.ts';
import type { Principal } from '../engine/principal.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Aborted, as `Watch.gone` is, when the key of whoever asks is not valid any more; null on public routes. */
    keyGone: AbortSignal | null;
    /** True once an answer was handed over to be sent. */
    answering: boolean;
  }
}

/** Milliseconds in which an answer that has begun may end by itself once its key is gone. */
const graceMs = 500;

/** Adds what `watchKey` and `whileKeyLasts` need of every request. Comes before every other hook that sees answers. */
export function addKeyWatch(app: FastifyInstance): void {
  app.decorateRequest('keyGone', null);
  app.decorateRequest('answering', false);
  app.addHook('onSend', async (request) => {
    request.answering = true;
  });
}

/** Watches the key of a request until its answer is over. An answer that does not end soon after its key is cut. */
export function watchKey(keys: KeyRing, principal: Principal, request: FastifyRequest, reply: FastifyReply): void {
  const { raw } = reply;
  const watch = keys.watch(principal);
  const { gone } = watch;
  let cut: NodeJS.Timeout | undefined;
  const onGone = () => {
    request.failure ??= 'invalid_key';
    cut = setTimeout(() => {
      if (request.answering) raw.destroy(); // else the handler has not been asked yet, and will not be
    }, graceMs);
  };
  const over = () => {
    clearTimeout(cut);
    gone.removeEventListener('abort', onGone);
    watch.release();
  };
  request.keyGone = gone;
  gone.addEventListener('abort', onGone, { once: true });
  raw.once('close', over);
  if (raw.destroyed) over();
}

/** What a handler gives. Rejects with `invalid_key` when the key is gone before the handler has an answer. */
export async function whileKeyLasts<T>(request: FastifyRequest, handle: () => T | Promise<T>): Promise<T> {
  const { keyGone } = request;
  if (!keyGone) return handle();
  const gone = Promise.withResolvers<never>();
  const onGone = () => {
    if (!request.answering) gone.reject(keyGone.reason);
  };
  keyGone.throwIfAborted();
  keyGone.addEventListener('abort', onGone, { once: true });
  try {
    return await Promise.race([handle(), gone.promise]);
  } finally {
    keyGone.removeEventListener('abort', onGone);
  }
}

/** Ends a handler whose client waits no more: without an answer, or, when its key is gone, by throwing `invalid_key`. */
export function leaveUnanswered(reply: FastifyReply): FastifyReply {
  reply.request.keyGone?.throwIfAborted();
  return reply.hijack();
}
