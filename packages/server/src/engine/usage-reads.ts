import type { BudgetStanding } from '@sallyport/protocol';
import type { Admin, AdminParts, UsageReport, UsageSpan } from './admin.ts';
import { isoTime, startsOf } from './clock.ts';
import { SallyportError } from './errors.ts';
import type { Budgets } from './ports.ts';
import type { Principal } from './principal.ts';

const dayMs = 86_400_000;
const usualDays = 30;
const mostDays = 366;

const dayOf = (at: number): string => isoTime(at).slice(0, 'yyyy-mm-dd'.length);
const startOf = (day: string): number => Date.parse(`${day}T00:00:00Z`);

/** The days that are wanted. Throws `validation_failed` when they are in no order or too many. */
function daysOf(span: UsageSpan, now: number): { from: string; to: string } {
  const to = span.to ?? dayOf(now);
  const from = span.from ?? dayOf(startOf(to) - (usualDays - 1) * dayMs);
  const count = (startOf(to) - startOf(from)) / dayMs + 1;
  if (count >= 1 && count <= mostDays) return { from, to };
  const msg = count < 1 ? 'is after the last day' : `is more than ${mostDays} days before the last`;
  throw new SallyportError('validation_failed', { issues: [{ loc: ['query', 'from'], msg, type: 'value_error' }] });
}

/** The part of `Admin` that tells what was used and spent. */
export function usageReads(parts: AdminParts): Pick<Admin, 'ownUsage' | 'allUsage'> {
  const { usage, budgets, tenants, clock } = parts;

  async function report(span: UsageSpan, whose: { tenant: string | null; key: string | null }): Promise<UsageReport> {
    const { from, to } = daysOf(span, clock.now());
    const days = await usage.byDay({ ...whose, from, to });
    const items = days.map(({ usage: tokens, costUsd: cost_usd, unpricedCalls: unpriced_calls, ...day }) => ({
      ...day,
      ...tokens,
      cost_usd,
      unpriced_calls,
    }));
    return { from, to, items, total_cost_usd: items.reduce((sum, { cost_usd }) => sum + cost_usd, 0) };
  }

  /** How the budgets of a key, or of a whole tenant, stand. */
  async function standings(tenant: string, key: string | null, limits: Budgets | null): Promise<BudgetStanding[]> {
    const found: BudgetStanding[] = [];
    for (const period of ['day', 'month'] as const) {
      const limit = limits?.[period] ?? null;
      if (limit === null) continue;
      const since = startsOf(clock.now())[period];
      const { spentUsd, reservedUsd } = await budgets.standing({ tenant, key, conversation: null, since }, null);
      const of = key === null ? 'tenant' : 'key';
      found.push({ of, period, limit_usd: limit, spent_usd: spentUsd, reserved_usd: reservedUsd });
    }
    return found;
  }

  async function standingsOf({ tenant, key, narrowing }: Principal): Promise<BudgetStanding[]> {
    const whole = await tenants.get(tenant);
    return [
      ...(await standings(tenant, key, narrowing?.budgets ?? null)),
      ...(await standings(tenant, null, whole?.budgets ?? null)),
    ];
  }

  return {
    async ownUsage(principal, span) {
      const { tenant, key } = principal;
      return { ...(await report(span, { tenant, key })), budgets: await standingsOf(principal) };
    },

    async allUsage({ role, tenant: own }, { tenant = role === 'admin' ? null : own, key = null, ...span }) {
      if (role !== 'admin' && tenant !== own) throw new SallyportError('forbidden');
      return await report(span, { tenant, key });
    },
  };
}
