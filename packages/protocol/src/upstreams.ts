import { z } from 'zod';
import { json, type Operation } from './operation.ts';
import { timestamp } from './shapes.ts';

/** An upstream and its keys, without anything of their secrets. */
export const upstreamInfo = z
  .object({
    name: z.string(),
    state: z
      .enum(['closed', 'open', 'half_open'])
      .describe(
        '`closed`: calls go there; `open`: it failed so often that nothing is sent there until `until`; `half_open`: the next call tries it.',
      ),
    until: timestamp.nullable().describe('Null unless `open`.'),
    calls: z.int().describe('Calls under way.'),
    max_calls: z.int(),
    keys: z.array(
      z.object({
        name: z.string().describe('Its place in the settings, as `key-1`.'),
        state: z.enum(['ready', 'aside']).describe('`aside`: it is used only where there is no other, until `until`.'),
        code: z.string().nullable().describe('Why it is put aside.'),
        until: timestamp.nullable(),
      }),
    ),
  })
  .meta({ id: 'UpstreamInfo' });
export type UpstreamInfo = z.output<typeof upstreamInfo>;

/** What is known of where the calls of the model go. */
export const upstreamOperations = {
  listUpstreams: {
    id: 'listUpstreams',
    method: 'GET',
    path: '/api/admin/upstreams',
    summary: 'Lists the upstreams and their keys',
    description:
      'Those of this server with their last known state, in the order in which they are used. Nothing is sent to them.',
    right: 'manage',
    response: json(z.object({ items: z.array(upstreamInfo), next_cursor: z.null() }), 'The upstreams.'),
    errors: [],
  },
} as const satisfies Record<string, Operation>;
