import { SallyportError } from '../engine/errors.ts';

/** Seconds after which a client may come again when the system gave no more processes or files. */
export const shortageSeconds = 5;

/** True when the system gives no more files at the moment. */
export function isShortage(error: unknown): boolean {
  const { code } = (error ?? {}) as { readonly code?: unknown };
  return code === 'EMFILE' || code === 'ENFILE';
}

/** What to throw for an error before anything has run: `overloaded` for a shortage, else the error itself. */
export function beforeRun(error: unknown): unknown {
  return isShortage(error) ? new SallyportError('overloaded', { cause: error, retryAfter: shortageSeconds }) : error;
}
