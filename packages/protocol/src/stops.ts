import { z } from 'zod';
import { json, type Operation } from './operation.ts';
import { timestamp } from './shapes.ts';

const base = '/api/admin/stops';
const name = z.string().min(1).max(100);

/** What is stopped. Each scope names all that is above it. */
export const stopRequest = z
  .strictObject({
    scope: z.enum(['all', 'tenant', 'key', 'conversation']),
    tenant: name.optional().describe('For every scope but `all`.'),
    key: name.optional().describe('Name of the key, for the scope `key`.'),
    conversation: name.optional().describe('Its `session_id`, for the scope `conversation`.'),
    reason: z.string().max(500).default('').describe('For those who read the audit log.'),
  })
  .superRefine(({ scope, ...named }, context) => {
    const needed = { all: [], tenant: ['tenant'], key: ['tenant', 'key'], conversation: ['tenant', 'conversation'] };
    for (const field of ['tenant', 'key', 'conversation'] as const) {
      const wanted = (needed[scope] as readonly string[]).includes(field);
      if (wanted === (named[field] !== undefined)) continue;
      const message = wanted ? `is required for the scope "${scope}"` : `does not belong to the scope "${scope}"`;
      context.addIssue({ code: 'custom', path: [field], message });
    }
  })
  .meta({ id: 'StopRequest' });

export const stopInfo = z
  .object({
    stop_id: z.string(),
    scope: z.enum(['all', 'tenant', 'key', 'conversation']),
    tenant: z.string().nullable(),
    key: z.string().nullable(),
    conversation: z.string().nullable(),
    reason: z.string(),
    created_at: timestamp,
    created_by: z.string(),
  })
  .meta({ id: 'StopInfo' });
export type StopInfo = z.output<typeof stopInfo>;

export const stopPath = z.strictObject({ stop_id: z.string().min(1).max(100) });

/** The kill switch. */
export const stopOperations = {
  listStops: {
    id: 'listStops',
    method: 'GET',
    path: base,
    summary: 'Lists what is stopped',
    description: 'Oldest first.',
    right: 'manage',
    response: json(
      z.object({ items: z.array(stopInfo), next_cursor: z.null() }).meta({ id: 'StopList' }),
      'The stops.',
    ),
    errors: [],
  },
  stop: {
    id: 'stop',
    method: 'POST',
    path: base,
    summary: 'Stops a conversation, a key, a tenant or everything',
    description:
      'Within a second no tool starts and no call of the model is made there any more: running turns end as `interrupted`, new ones are refused with `stopped`. Reading goes on. It holds, over restarts too, until it is lifted.',
    right: 'manage',
    body: stopRequest,
    response: json(stopInfo, 'It is stopped.', 201),
    errors: ['storage_full'],
  },
  liftStop: {
    id: 'liftStop',
    method: 'DELETE',
    path: `${base}/{stop_id}`,
    summary: 'Lifts a stop',
    description: 'What was interrupted does not go on by itself.',
    right: 'manage',
    params: stopPath,
    response: json(stopInfo, 'It is lifted.'),
    errors: ['stop_not_found', 'storage_full'],
  },
} as const satisfies Record<string, Operation>;
