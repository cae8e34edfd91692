import { z } from 'zod';
import { httpUrl, modelName, path, secret, type Kind } from './kinds.ts';

const mostUpstreams = 20;
/** Most keys of an upstream. */
export const mostKeys = 100;
/** Largest bound of the calls under way at an upstream. */
export const mostConcurrent = 10_000;

/** A key of an upstream. */
export const upstreamKey = secret(1).schema;

const entry = z
  .strictObject({
    name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,39}$/),
    base_url: httpUrl.schema,
    keys: z.array(upstreamKey).min(1).max(mostKeys).optional(),
    key_file: path.schema.optional(),
    max_concurrent: z.int().min(1).max(mostConcurrent).optional(),
    models: z.array(modelName.schema).min(1).optional(),
  })
  .refine(({ keys, key_file: file }) => (keys === undefined) !== (file === undefined));

/** An upstream as it is listed. */
export type ListedUpstream = z.infer<typeof entry>;

/** The upstreams as an operator lists them. */
export const upstreamList: Kind<ListedUpstream[]> = {
  accepts:
    'a JSON list of objects with `name` (small letters, digits, `.`, `_`, `-`), `base_url`, either `keys` or `key_file`, and if wanted `max_concurrent` and `models`',
  schema: z
    .string()
    .transform((value, context): unknown => {
      try {
        return JSON.parse(value);
      } catch {
        context.addIssue({ code: 'custom' });
        return z.NEVER;
      }
    })
    .pipe(z.array(entry).min(1).max(mostUpstreams)),
};
