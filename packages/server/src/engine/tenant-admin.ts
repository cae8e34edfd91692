import type { TenantInfo } from '@sallyport/protocol';
import { auditOfAdmin, flat } from './admin-audit.ts';
import type { Admin, AdminParts } from './admin.ts';
import { isoTime } from './clock.ts';
import { SallyportError } from './errors.ts';
import type { TenantRecord, TenantStore } from './ports.ts';

const infoOf = ({ id, createdAt, budgets }: TenantRecord): TenantInfo => ({
  id,
  created_at: isoTime(createdAt),
  budgets: budgets && { ...budgets },
});

/** The tenant of an id. Rejects with `tenant_not_found`. */
export async function requireTenant(tenants: TenantStore, id: string): Promise<TenantRecord> {
  const found = await tenants.get(id);
  if (found === null) throw new SallyportError('tenant_not_found');
  return found;
}

/** The part of `Admin` that looks after tenants. */
export function tenantAdmin({
  tenants,
  clock,
}: AdminParts): Pick<Admin, 'tenants' | 'createTenant' | 'setTenantBudgets'> {
  return {
    tenants: async () => (await tenants.list()).map(infoOf),

    async createTenant(principal, id, budgets) {
      const tenant: TenantRecord = { id, createdAt: clock.now(), budgets };
      const act = { at: tenant.createdAt, tenant: id, action: 'tenant.create', subject: id, details: flat(budgets) };
      if (!(await tenants.create(tenant, auditOfAdmin(principal, act)))) throw new SallyportError('tenant_exists');
      return infoOf(tenant);
    },

    async setTenantBudgets(principal, id, budgets) {
      const act = { at: clock.now(), tenant: id, action: 'tenant.budgets', subject: id, details: flat(budgets) };
      const isSet = await tenants.setBudgets(id, budgets, auditOfAdmin(principal, act));
      if (!isSet) throw new SallyportError('tenant_not_found');
      return infoOf(await requireTenant(tenants, id));
    },
  };
}
