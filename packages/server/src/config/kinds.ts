import { realpathSync, statSync } from 'node:fs';
import { isIP, isIPv6 } from 'node:net';
import { isAbsolute } from 'node:path';
import { z } from 'zod';

/** What a setting's text may be, in words and as a schema that reads it. */
export interface Kind<T> {
  /** Completes the sentence "it must be …". */
  readonly accepts: string;
  readonly schema: z.ZodType<T, string>;
  /** What separates the items, if the setting is a list. Its empty text is an empty list, not "not given". */
  readonly separator?: ',' | ':';
}

const text = (accepts: string, test: (value: string) => boolean): Kind<string> => ({
  accepts,
  schema: z.string().refine(test),
});

const isHostName = (value: string) =>
  isIP(value) !== 0 || /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i.test(value);

export const hostName = text('a host name or an IP address', isHostName);

export const path = text('a path', (value) => !/[\u0000-\u001f\u007f]/u.test(value));

export const httpUrl = text('an http or https address without user name, password and query', (value) => {
  const url = URL.parse(value);
  return url !== null && /^https?:$/.test(url.protocol) && !url.username && !url.password && !/[?#]/.test(value);
});

/** Text that can be sent as it is in a header. */
export const secret = (minimum: number): Kind<string> =>
  text(
    `${minimum > 1 ? `at least ${minimum} ` : ''}printable ASCII characters without spaces`,
    (value) => value.length >= minimum && /^[\u0021-\u007e]+$/u.test(value),
  );

/** Both bounds are included. */
export const wholeNumber = (minimum: number, maximum: number): Kind<number> => ({
  accepts: `a whole number from ${minimum} to ${maximum}`,
  schema: z
    .string()
    .regex(/^\d{1,15}$/)
    .transform(Number)
    .pipe(z.int().min(minimum).max(maximum)),
});

export const choice = <const V extends string>(...values: readonly V[]): Kind<V> => ({
  accepts: `one of ${values.join(', ')}`,
  schema: z.string().pipe(z.enum(values as readonly [V, ...V[]])),
});

const list = (accepts: string, separator: ',' | ':', item: z.ZodType<string, string>): Kind<string[]> => ({
  accepts: `${accepts}, separated by ${separator === ',' ? 'commas' : 'colons'}`,
  separator,
  schema: z
    .string()
    .transform((value) => value.split(separator).flatMap((part) => (part.trim() === '' ? [] : [part.trim()])))
    .pipe(z.array(item))
    .transform((items) => [...new Set(items)]),
});

export const hostNames = list(
  'host names or IP addresses without a port',
  ',',
  z.string().toLowerCase().refine(isHostName),
);

const isModelName = (value: string) => /^[^\s,\u0000-\u001f\u007f]{1,200}$/u.test(value);

export const modelName = text('the name of a model', isModelName);
export const modelNames = list('names of models', ',', z.string().refine(isModelName));

export const origins = list(
  'origins such as https://app.example.com, never *',
  ',',
  z.string().refine((value) => /^https?:\/\/[^*]+$/.test(value) && URL.parse(value)?.origin === value),
);

/** None of them is a range of everything: what is meant to be let through would be all. */
export const networks = list(
  'IP addresses or ranges such as 10.0.0.0/8',
  ',',
  z.string().refine((value) => {
    const [address = '', prefix, ...rest] = value.split('/');
    if (isIP(address) === 0 || rest.length > 0) return false;
    return prefix === undefined || (/^[1-9]\d{0,2}$/.test(prefix) && Number(prefix) <= (isIPv6(address) ? 128 : 32));
  }),
);

export const proxies = networks;

/** Reads as real paths, as only those can be compared with the paths a run may use. */
export const directories = list(
  'absolute paths of directories that exist',
  ':',
  z.string().transform((value, context) => {
    const problem = directoryProblem(value);
    if (problem === null) return realpathSync(value);
    context.addIssue({ code: 'custom', message: `${JSON.stringify(value)} ${problem}` });
    return z.NEVER;
  }),
);

function directoryProblem(directory: string): string | null {
  if (!isAbsolute(directory)) return 'is not an absolute path';
  try {
    return statSync(directory).isDirectory() ? null : 'is not a directory';
  } catch {
    return 'does not exist';
  }
}
