import { ticketSeconds, type Tickets } from '../../engine/tickets.ts';
import type { Handlers } from '../routes.ts';

/** Gives tickets to those who cannot send a key where it is asked for. */
export function ticketHandlers(tickets: Tickets): Pick<Handlers, 'wsTicket'> {
  return {
    wsTicket: async ({ principal }) => ({ ticket: await tickets.issue(principal), expires_in: ticketSeconds }),
  };
}
