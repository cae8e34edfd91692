import type { IncomingMessage } from 'node:http';
import type { FastifyReply } from 'fastify';
import type { RunningTurn } from '../engine/engine.ts';
import { SallyportError } from '../engine/errors.ts';
import { valuesOf } from './hosts.ts';

/**
 * The `Idempotency-Key` of a request, or null. Throws `bad_request` when there are several, and `validation_failed` when
 * it is not 1 to 255 visible ASCII characters.
 */
export function idempotencyKeyOf(raw: IncomingMessage): string | null {
  const [key, ...more] = valuesOf(raw, 'idempotency-key');
  if (more.length > 0) throw new SallyportError('bad_request', { detail: 'Send one Idempotency-Key only.' });
  if (key === undefined) return null;
  if (/^[!-~]{1,255}$/.test(key)) return key;
  const msg = 'Value error, must be 1 to 255 visible ASCII characters';
  throw new SallyportError('validation_failed', {
    issues: [{ loc: ['header', 'Idempotency-Key'], msg, type: 'value_error' }],
  });
}

/** Says on the answer that it is the one of an earlier request, when it is. */
export function tellReplay(reply: FastifyReply, turn: RunningTurn): void {
  if (turn.replayed) reply.header('idempotency-replayed', 'true');
}
