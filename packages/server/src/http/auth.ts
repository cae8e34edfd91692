import type { Operation } from '@sallyport/protocol';
import type { FastifyRequest } from 'fastify';
import { SallyportError } from '../engine/errors.ts';
import type { KeyRing } from '../engine/keys.ts';
import { mayUse, type Principal } from '../engine/principal.ts';
import type { Tickets } from '../engine/tickets.ts';
import { valuesOf } from './hosts.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; null on public routes and before the key was checked. */
    principal: Principal | null;
  }
}

/** Where principals are found. */
export interface Credentials {
  readonly keys: KeyRing;
  readonly tickets: Tickets;
}

/** The secret of the one `Authorization` header. Throws `unauthenticated` when there is none, several or another kind. */
function bearerOf(values: readonly string[]): string {
  const [, secret] = /^Bearer +(\S+) *$/i.exec(values[0] ?? '') ?? [];
  if (values.length !== 1 || secret === undefined) throw new SallyportError('unauthenticated');
  return secret;
}

/** The principal whose ticket it is, which is used up. Null when there is none, or its key is not there any more. */
export async function redeemTicket(ticket: string, { keys, tickets }: Credentials): Promise<Principal | null> {
  const owner = await tickets.redeem(ticket);
  return owner && keys.named(owner.tenant, owner.key);
}

/**
 * Finds the principal of a request to an operation, null where it is public, and puts it on the request. Looks at the matched operation only,
 * never at the text of the address. A ticket counts only where the operation takes one and no key was sent. Rejects with
 * `unauthenticated`, `invalid_key` or `forbidden`.
 */
export async function authenticate(
  request: FastifyRequest,
  operation: Operation,
  credentials: Credentials,
): Promise<Principal | null> {
  if (operation.right === 'public') return null;
  const values = valuesOf(request.raw, 'authorization');
  const { ticket } = request.query as { ticket?: unknown };
  request.principal =
    operation.takesTicket && values.length === 0 && typeof ticket === 'string'
      ? await redeemTicket(ticket, credentials)
      : credentials.keys.authenticate(bearerOf(values));
  if (!request.principal) throw new SallyportError('invalid_key');
  if (!mayUse(request.principal, operation.right)) throw new SallyportError('forbidden');
  return request.principal;
}
