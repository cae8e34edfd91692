import { randomUUID } from 'node:crypto';
import { rows } from './runs.ts';
import { userKey } from './service.ts';

/** A request under an `Idempotency-Key`. */
export interface Asking {
  readonly path: string;
  readonly body: object;
  readonly key: string;
  readonly apiKey?: string;
  readonly accept?: string;
  readonly signal?: AbortSignal;
}

/** Asks under an `Idempotency-Key`. */
export async function ask(of: { url: string }, { path, body, key, apiKey = userKey, accept, signal }: Asking) {
  const response = await fetch(`${of.url}/api/claude/${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${apiKey}`,
      'content-type': 'application/json',
      'idempotency-key': key,
      ...(accept !== undefined && { accept }),
    },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });
  const { status, headers } = response;
  const text = await response.text();
  const json = headers.get('content-type')?.startsWith('application/json') === true;
  return {
    status,
    text,
    replayed: headers.get('idempotency-replayed'),
    retryAfter: headers.get('retry-after'),
    body: (json ? JSON.parse(text) : {}) as Record<string, any>,
  };
}

/** What came back. */
export type Answer = Awaited<ReturnType<typeof ask>>;

/** A word that only the prompts of one test hold. */
export const newWord = () => `idem-${randomUUID()}`;
/** How many turns there were with the word. */
export const turnsOf = (of: { dataDir: string }, word: string) =>
  Number(rows(of, 'select count(*) as n from turns where instr(request, ?) > 0', word)[0]?.['n']);
