/** An error as logs show it. */
export interface LoggedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string | number;
  readonly stack?: string;
  readonly cause?: unknown;
  readonly errors?: readonly unknown[];
}

const mostCauses = 10;

/**
 * What logs keep of an error: kind, message, code, stack and causes. Other fields of an error are left out, as libraries
 * put whole requests into them. What is no error is given back as it is.
 */
export function loggedError(thrown: unknown, depth = 0): unknown {
  if (!(thrown instanceof Error)) return thrown;
  const { code, errcode } = thrown as { code?: unknown; errcode?: unknown };
  const number = errcode ?? code;
  const causes = thrown.cause !== undefined && depth < mostCauses;
  return {
    type: thrown.name,
    message: thrown.message,
    ...(typeof number === 'string' || typeof number === 'number' ? { code: number } : {}),
    ...(thrown.stack === undefined ? {} : { stack: thrown.stack }),
    ...(causes ? { cause: loggedError(thrown.cause, depth + 1) } : {}),
    ...(thrown instanceof AggregateError && depth < mostCauses
      ? { errors: thrown.errors.slice(0, mostCauses).map((error) => loggedError(error, depth + 1)) }
      : {}),
  } satisfies LoggedError;
}
