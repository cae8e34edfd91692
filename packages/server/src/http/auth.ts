import type { IncomingMessage } from 'node:http';
import type { Operation, Right } from '@sallyport/protocol';
import type { FastifyRequest } from 'fastify';
import type { Journal } from '../engine/admin.ts';
import { SallyportError } from '../engine/errors.ts';
import type { KeyRing } from '../engine/keys.ts';
import { mayUse, type Principal } from '../engine/principal.ts';
import type { Tickets } from '../engine/tickets.ts';
import { valuesOf } from './hosts.ts';
import type { Rates } from './rate-limit.ts';

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
  return owner && (await keys.current(owner));
}

/**
 * Finds the principal of a request to an operation. Looks at the matched operation only, never at the text of the
 * address. A ticket counts only where the operation takes one and no key was sent. Rejects with `unauthenticated` or
 * `invalid_key`.
 */
export async function authenticate(
  request: FastifyRequest,
  operation: Operation,
  credentials: Credentials,
): Promise<Principal> {
  const values = valuesOf(request.raw, 'authorization');
  const { ticket } = request.query as { ticket?: unknown };
  request.principal =
    operation.takesTicket && values.length === 0 && typeof ticket === 'string'
      ? await redeemTicket(ticket, credentials)
      : await credentials.keys.authenticate(bearerOf(values));
  if (!request.principal) throw new SallyportError('invalid_key');
  return request.principal;
}

/** What somebody asks for. */
export interface Entry {
  /** Finds who asks. Rejects with `unauthenticated` or `invalid_key`. */
  readonly find: () => Promise<Principal>;
  readonly right: Right;
  /** Names what is asked for in the journal. */
  readonly operation: string;
  /** True: does not count as a request of its key. */
  readonly free: boolean;
}

/** What lets somebody in, and writes it down. */
export interface Door {
  readonly rates: Rates;
  readonly journal: Journal;
  /** The address of the client. */
  readonly addressOf: (raw: IncomingMessage) => string;
}

/**
 * Lets somebody in, in this order: key, right, rate. Whoever came in, who did not and who lacks the right is in the
 * journal before the answer; but not whose address is over its limit. Rejects with `unauthenticated`, `invalid_key`,
 * `forbidden` or `rate_limited`, or with what the journal or the limiter fails with.
 */
export async function letIn(
  raw: IncomingMessage,
  { rates, journal, addressOf }: Door,
  entry: Entry,
): Promise<Principal> {
  const { right, operation, free } = entry;
  const address = addressOf(raw);
  const find = async () => {
    const principal = await entry.find();
    await journal.accepted(principal, address);
    if (mayUse(principal, right)) return principal;
    await journal.forbidden(principal, operation);
    throw new SallyportError('forbidden');
  };
  try {
    return await rates.admit(raw, find, free);
  } catch (error) {
    if (isRefusal(error)) await journal.refused(address, error.code);
    throw error;
  }
}

type Refusal = SallyportError & { readonly code: Parameters<Journal['refused']>[1] };

function isRefusal(error: unknown): error is Refusal {
  return error instanceof SallyportError && (error.code === 'unauthenticated' || error.code === 'invalid_key');
}
