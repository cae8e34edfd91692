import { createHash } from 'node:crypto';
import type { Clock } from './clock.ts';
import { newSecret } from './ids.ts';
import type { TicketOwner, TicketStore } from './ports.ts';
import type { Principal } from './principal.ts';

/** How long a ticket can be used, in seconds. */
export const ticketSeconds = 30;

/** Stands for a key once, where a browser cannot send one. */
export interface Tickets {
  issue(principal: Principal): Promise<string>;
  /** Uses a ticket up and gives whose it was; null when it is none, was used, or its time has passed. Takes any text. */
  redeem(ticket: string): Promise<TicketOwner | null>;
}

const hashOf = (ticket: string): string => createHash('sha256').update(ticket, 'utf8').digest('hex');

/** Tickets over a store that keeps their hashes only. */
export function createTickets(store: TicketStore, clock: Clock): Tickets {
  return {
    async issue({ tenant, key, secretHash }) {
      const ticket = newSecret('ticket-');
      const now = clock.now();
      await store.sweep(now);
      await store.put(hashOf(ticket), { tenant, key, secretHash, expiresAt: now + ticketSeconds * 1000 });
      return ticket;
    },
    redeem: (ticket) => store.take(hashOf(ticket), clock.now()),
  };
}
