import { z } from 'zod';
import { timestamp } from './shapes.ts';
import { permissionModes, toolNames } from './tools.ts';

/** What keys may do, from the most to the least. */
export const roles = ['admin', 'operator', 'user', 'viewer'] as const;
export type Role = (typeof roles)[number];

/** Names of keys and tenants: they are part of paths, of logs and of the audit log. */
const chosenName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/u, {
  error: 'must be 1 to 64 letters, digits, ".", "_" or "-", and begin with a letter or digit',
});

const money = z.number().min(0).max(1_000_000);
const count = z.int().min(0).max(1_000_000);

/** Most that may be spent, in USD. A part that is missing or null has no bound. */
export const budgets = z
  .strictObject({
    run: money.nullable().default(null).describe('By one turn.'),
    conversation: money.nullable().default(null).describe('By all turns of a conversation.'),
    day: money.nullable().default(null).describe('In a day, by UTC.'),
    month: money.nullable().default(null).describe('In a calendar month, by UTC.'),
  })
  .meta({ id: 'Budgets' });

const rates = z
  .strictObject({
    requests_per_minute: count.optional().describe('In any 60 seconds; 0: no limit.'),
    requests_per_hour: count.optional().describe('In any hour; 0: no limit.'),
    burst_size: count.optional().describe('In any 10 seconds; 0: no limit.'),
  })
  .meta({ id: 'KeyRates' });

/** What a key may less than its role. A part that is null is not narrowed. */
export const narrowing = z
  .strictObject({
    permission_modes: z.array(z.enum(permissionModes)).min(1).nullable().default(null),
    tools: z.array(z.enum(toolNames)).nullable().default(null).describe('An empty list: no tools.'),
    models: z.array(z.string().min(1).max(200)).min(1).max(100).nullable().default(null),
    workspace_roots: z
      .array(z.string().startsWith('/', { error: 'must be an absolute path' }).max(4096))
      .max(100)
      .nullable()
      .default(null)
      .describe("Projects must lie inside one of them, and inside one of the service's own. An empty list: none."),
    rates: rates.nullable().default(null).describe("Instead of the service's own; a part that is missing stays."),
    budgets: budgets.nullable().default(null),
  })
  .meta({ id: 'Narrowing' });
export type NarrowingShape = z.output<typeof narrowing>;

/** Seconds from now. */
const lifetime = z
  .int()
  .min(1)
  .max(10 * 366 * 86_400);

export const keyPath = z.strictObject({ tenant: z.string().min(1).max(64), key: z.string().min(1).max(64) });
export const tenantPath = z.strictObject({ tenant: z.string().min(1).max(64) });

export const keyRequest = z
  .strictObject({
    name: chosenName.optional().describe('Never used again in the tenant, even when the key is revoked.'),
    role: z.enum(roles),
    narrowing: narrowing.nullish().describe('Parts left out are those of the key that makes it.'),
    expires_in: lifetime.nullish().describe('Seconds until it expires; null: never.'),
  })
  .meta({ id: 'KeyRequest' });

export const keyChange = z
  .strictObject({
    narrowing: narrowing.nullish().describe('Takes the place of the whole narrowing there is.'),
    expires_in: lifetime.nullish().describe('Seconds from now; null: as it is.'),
  })
  .meta({ id: 'KeyChange' });

export const keyRotation = z
  .strictObject({
    overlap: z
      .int()
      .min(0)
      .max(30 * 86_400)
      .default(3600)
      .describe('Seconds for which the old secret stays valid.'),
  })
  .meta({ id: 'KeyRotation' });

export const keyInfo = z
  .object({
    tenant: z.string(),
    name: z.string(),
    role: z.enum(roles),
    narrowing: narrowing.nullable(),
    created_at: timestamp.nullable().describe('Null: configured, not stored.'),
    created_by: z.string(),
    expires_at: timestamp.nullable(),
    revoked_at: timestamp.nullable(),
    previous_until: timestamp.nullable().describe('Until when the secret before the last rotation is valid.'),
  })
  .meta({ id: 'KeyInfo' });
export type KeyInfo = z.output<typeof keyInfo>;

export const keyWithSecret = keyInfo
  .extend({ secret: z.string().describe('Shown this once. Only its hash is kept.') })
  .meta({ id: 'KeyWithSecret' });
export type KeyWithSecret = z.output<typeof keyWithSecret>;

export const keyList = z.object({ items: z.array(keyInfo), next_cursor: z.null() }).meta({ id: 'KeyList' });

export const tenantRequest = z
  .strictObject({ id: chosenName, budgets: budgets.nullish() })
  .meta({ id: 'TenantRequest' });
export const tenantChange = z.strictObject({ budgets: budgets.nullable() }).meta({ id: 'TenantChange' });
export const tenantInfo = z
  .object({ id: z.string(), created_at: timestamp, budgets: budgets.nullable() })
  .meta({ id: 'TenantInfo' });
export type TenantInfo = z.output<typeof tenantInfo>;
export const tenantList = z.object({ items: z.array(tenantInfo), next_cursor: z.null() }).meta({ id: 'TenantList' });
