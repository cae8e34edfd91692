import { isErrorCode, type Delta, type ErrorCode, type TurnStatus } from '@sallyport/protocol';

/**
 * What the node that runs a turn tells of it. `seq` is that of the last event before. `log`: there are events up to that
 * one, which are read in the store. `failed`: no result will come, as the end could not be stored.
 */
export type Told = { readonly seq: number } & (
  | { readonly kind: 'log' }
  | ({ readonly kind: 'delta' } & Delta)
  | { readonly kind: 'status'; readonly status: TurnStatus }
  | { readonly kind: 'failed'; readonly code: ErrorCode }
);

/** A conversation that is followed where it does not run, and how far it is known there: the last event, and the characters of the block that is open after it. */
export interface Asked {
  readonly tenant: string;
  readonly conversation: string;
  readonly seq: number;
  readonly chars: number;
}

/** The channel on which nodes say what is followed there. */
export const asksChannel = 'follow';

/** The channel on which is told what goes on in a conversation: of one tenant alone. */
export const channelOf = (tenant: string, conversation: string): string =>
  `told:${JSON.stringify([tenant, conversation])}`;

export const toldText = (told: Told): string => JSON.stringify(told);

export const askedText = (asked: readonly Asked[]): string =>
  JSON.stringify(asked.map(({ tenant, conversation, seq, chars }) => [tenant, conversation, seq, chars]));

const isPlace = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Null where it is none that this version knows: nodes of another version may be there for a while. */
export function readTold(text: string): Told | null {
  const told = parsed(text) as Readonly<Record<string, unknown>> | null;
  if (typeof told !== 'object' || told === null || !isPlace(told['seq'])) return null;
  const { seq, kind } = told;
  if (kind === 'log') return { kind, seq };
  if (kind === 'delta') {
    const { block, offset, text: piece } = told;
    if ((block !== 'text' && block !== 'thinking') || !isPlace(offset) || typeof piece !== 'string') return null;
    return { kind, seq, block, offset, text: piece };
  }
  if (kind === 'status') {
    const status = statusOf(told['status']);
    return status && { kind, seq, status };
  }
  if (kind !== 'failed' || typeof told['code'] !== 'string' || !isErrorCode(told['code'])) return null;
  return { kind, seq, code: told['code'] };
}

/** Where a turn stands; null where that is no status of a turn. */
export function statusOf(value: unknown): TurnStatus | null {
  if (typeof value !== 'object' || value === null) return null;
  const { status, place } = value as Readonly<Record<string, unknown>>;
  if (status === 'running') return { status };
  return status === 'queued' && isPlace(place) ? { status, place } : null;
}

/** What of it can be read. */
export function readAsked(text: string): Asked[] {
  const list = parsed(text);
  if (!Array.isArray(list)) return [];
  return list.flatMap((one: unknown) => {
    const [tenant, conversation, seq, chars] = Array.isArray(one) ? (one as unknown[]) : [];
    if (typeof tenant !== 'string' || typeof conversation !== 'string' || !isPlace(seq) || !isPlace(chars)) return [];
    return [{ tenant, conversation, seq, chars }];
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
