import { z } from 'zod';
import { json, type Operation } from './operation.ts';
import { usage } from './shapes.ts';

const day = z.iso.date().describe('A day, by UTC.');

const span = {
  from: z.iso.date().optional().describe('First day, by UTC; default: 29 days before the last.'),
  to: z.iso.date().optional().describe('Last day, by UTC; default: today.'),
};

export const usageQuery = z.strictObject(span);
export const allUsageQuery = z.strictObject({
  ...span,
  tenant: z.string().min(1).max(100).optional().describe('An operator reads its own tenant only.'),
  key: z.string().min(1).max(100).optional().describe('Name of a key.'),
});

export const usageLine = usage
  .extend({
    tenant: z.string(),
    key: z.string(),
    day,
    model: z.string(),
    calls: z.int().describe('Calls of the model.'),
    cost_usd: z.number(),
    unpriced_calls: z.int().describe('Calls whose price is not known; `cost_usd` lacks them.'),
  })
  .meta({ id: 'UsageLine' });
export type UsageLine = z.output<typeof usageLine>;

/** How a budget stands. */
export const budgetStanding = z
  .object({
    of: z.enum(['key', 'tenant']),
    period: z.enum(['day', 'month']),
    limit_usd: z.number(),
    spent_usd: z.number(),
    reserved_usd: z.number().describe('Held by turns that run.'),
  })
  .meta({ id: 'BudgetStanding' });
export type BudgetStanding = z.output<typeof budgetStanding>;

const report = {
  from: day,
  to: day,
  items: z.array(usageLine).describe('Newest day first.'),
  next_cursor: z.null(),
  total_cost_usd: z.number(),
};
export const usageReport = z
  .object({ ...report, budgets: z.array(budgetStanding).describe('Those that bind this key.') })
  .meta({ id: 'UsageReport' });
export const allUsageReport = z.object(report).meta({ id: 'AllUsageReport' });

/** The routes that tell what was spent. */
export const usageOperations = {
  usage: {
    id: 'usage',
    method: 'GET',
    path: '/api/claude/usage',
    summary: 'Tells what the key has used and spent, by day and model',
    description: 'As the broker metered it, call by call. At most 366 days.',
    right: 'read',
    query: usageQuery,
    response: json(usageReport, 'The usage of the key.'),
    errors: [],
  },
  allUsage: {
    id: 'allUsage',
    method: 'GET',
    path: '/api/admin/usage',
    summary: 'Tells what was used and spent, by key, day and model',
    description: 'Of all tenants for an admin, of its own for an operator. At most 366 days.',
    right: 'audit',
    query: allUsageQuery,
    response: json(allUsageReport, 'The usage.'),
    errors: [],
  },
} as const satisfies Record<string, Operation>;
