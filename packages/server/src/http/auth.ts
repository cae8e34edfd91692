import type { Operation } from '@sallyport/protocol';
import type { FastifyRequest } from 'fastify';
import { SallyportError } from '../engine/errors.ts';
import type { KeyRing } from '../engine/keys.ts';
import { mayUse, type Principal } from '../engine/principal.ts';
import { valuesOf } from './hosts.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; null on public routes and before the key was checked. */
    principal: Principal | null;
  }
}

/**
 * Finds the principal of a request to an operation and puts it on the request. Looks at the matched operation only,
 * never at the text of the address. Throws `unauthenticated`, `invalid_key` or `forbidden`.
 */
export function authenticate(request: FastifyRequest, operation: Operation, keys: KeyRing): void {
  if (operation.right === 'public') return;
  const values = valuesOf(request.raw, 'authorization');
  const [, secret] = /^Bearer +(\S+) *$/i.exec(values[0] ?? '') ?? [];
  if (values.length !== 1 || secret === undefined) throw new SallyportError('unauthenticated');
  request.principal = keys.authenticate(secret);
  if (!request.principal) throw new SallyportError('invalid_key');
  if (!mayUse(request.principal, operation.right)) throw new SallyportError('forbidden');
}
