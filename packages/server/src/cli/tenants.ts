import type { TenantInfo } from '@sallyport/protocol';
import type { Client } from './client.ts';
import type { Commands, Line, Terminal } from './command.ts';
import { budgetsIn, budgetsText, withBudgets } from './narrowing.ts';
import { printList, printOne } from './print.ts';

const columns: Readonly<Record<string, (tenant: TenantInfo) => string>> = {
  ID: ({ id }) => id,
  CREATED: ({ created_at }) => created_at,
  BUDGETS: ({ budgets }) => budgetsText(budgets),
};

async function tenantsOf(client: Client): Promise<TenantInfo[]> {
  return (await client.call<{ items: TenantInfo[] }>('listTenants')).items;
}

async function setBudgets(client: Client, terminal: Terminal, { words: [id = ''], options }: Line): Promise<void> {
  const before = (await tenantsOf(client)).find((tenant) => tenant.id === id)?.budgets ?? null;
  const budgets = budgetsIn(options, before);
  if (budgets === undefined) throw new Error('no budget is given: add --budget-day or another one');
  const changed = await client.call<TenantInfo>('changeTenant', { params: { tenant: id }, body: { budgets } });
  printOne(terminal, options, changed, columns);
}

/** Adds the commands that look after tenants. */
export function addTenantCommands(commands: Commands): void {
  const tenants = commands.group('tenants', 'Looks after the tenants of the running service.');
  withBudgets(
    tenants.ask('create <id>', 'Makes a tenant.', async (client, terminal, { words: [id], options }) => {
      const body = { id, budgets: budgetsIn(options, null) ?? null };
      printOne(terminal, options, await client.call<TenantInfo>('createTenant', { body }), columns);
    }),
  );
  tenants.ask('list', 'Lists the tenants.', async (client, terminal, { options }) =>
    printList(terminal, options, await tenantsOf(client), columns),
  );
  withBudgets(tenants.ask('budgets <id>', 'Changes the given budgets of a tenant.', setBudgets));
}
