import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

/** Adds what an exchange and `whileKeyLasts` need of every request. Comes before every other hook that sees answers. */
export function addKeyWatch(app: FastifyInstance): void {
  app.decorateRequest('keyGone', null);
  app.decorateRequest('answering', false);
  app.addHook('onSend', async (request) => {
    request.answering = true;
  });
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
