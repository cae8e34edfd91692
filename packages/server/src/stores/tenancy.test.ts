import { deepStrictEqual, ok } from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { join } from 'node:path';
import { test } from 'node:test';
import type { KyselyPlugin } from 'kysely';
import { systemClock } from '../engine/clock.ts';
import { aDirectory } from '../testing/directory.ts';
import { neverMeet } from '../testing/tenancy.ts';
import type { AllStores } from '../testing/tenancy-changes.ts';
import { createDatabase } from './database.ts';
import { openSqlite } from './sqlite.ts';
import { storesOf } from './stores.ts';

/** The methods that look at rows of all tenants, and why. No other one may. */
const unbound: Readonly<Record<string, string>> = {
  'approvals.expire': 'for the sweeper',
  'budgets.releaseEnded': 'for the sweeper',
  'conversations.endIdle': 'for the sweeper',
  'conversations.listEnded': 'for the sweeper',
  'deliveries.sweep': 'for the sweeper',
  'deliveries.take': 'for the dispatcher, that sends those of all tenants',
  'jobs.running': 'for the worker, that runs those of all tenants',
  'jobs.sweep': 'for the sweeper',
  'jobs.take': 'for the worker, that runs those of all tenants',
  'jobs.takeLost': 'the same',
  'keys.byHash': 'a secret says whose it is',
  'keys.changedSince': 'for the connections of this process, of whatever tenant',
  'tickets.sweep': 'for the sweeper',
  'tickets.take': 'a ticket says whose it is',
  'turns.sweepClaims': 'for the sweeper',
  'turns.askedToStop': 'for the turns of this node, of whatever tenant',
  'turns.ofNode': 'for the turns of this node, of whatever tenant',
  'turns.takeUnfinished': 'for turns of nodes that are gone, of whatever tenant',
};

/** Tables that have no tenant, or whose rows may be of all of them. */
const ofAll = new Set([
  'tenants',
  'stops',
  'nodes',
  'kept_place',
  'audit_head',
  'write_checks',
  'kysely_migration',
  'kysely_migration_lock',
]);

type Node = Readonly<Record<string, unknown>>;

/** The nodes of a query, without what is in those that are left out. */
function* nodes(value: unknown, without: (node: Node) => boolean = () => false): Generator<Node> {
  if (value === null || typeof value !== 'object') return;
  if ('kind' in value) {
    if (without(value)) return;
    yield value;
  }
  for (const part of Object.values(value)) yield* nodes(part, without);
}

const kindOf = (kind: string) => (node: Node) => node['kind'] === kind;
const namesTenant = (value: unknown) =>
  [...nodes(value)].some((node) => JSON.stringify(node['column'] ?? null).includes('"name":"tenant"'));

/** The tables a statement reads or changes rows of. */
function tablesOf({ kind, from, table }: Node): string[] {
  const named = kind === 'UpdateQueryNode' ? table : from;
  return [...nodes(named)].filter(kindOf('SchemableIdentifierNode')).map((node) => {
    return String((node['identifier'] as Node)['name']);
  });
}

const statements = new Set(['SelectQueryNode', 'UpdateQueryNode', 'DeleteQueryNode']);
const isStatement = ({ kind }: Node) => statements.has(String(kind));

/** True when its condition, not that of a statement in it, says of which tenant the rows are. */
const isBound = ({ where }: Node) =>
  [...nodes(where, isStatement)].filter(kindOf('BinaryOperationNode')).some((node) => {
    const operator = (node['operator'] as Node)['operator'];
    return operator === '=' && namesTenant(node['leftOperand']);
  });

type Methods = Record<string, (...args: unknown[]) => unknown>;

test('every statement that reads or changes rows of a tenant says of which, but those of the sweeps', async (t) => {
  const method = new AsyncLocalStorage<string>();
  const found = new Set<string>();
  const called = new Set<string>();
  const watch: KyselyPlugin = {
    transformQuery({ node }) {
      const name = method.getStore();
      for (const one of nodes(node)) {
        if (name === undefined || !isStatement(one)) continue;
        if (tablesOf(one).some((table) => !ofAll.has(table)) && !isBound(one)) found.add(name);
      }
      return node;
    },
    transformResult: async ({ result }) => result,
  };
  const database = await createDatabase(openSqlite(join(aDirectory(t), 'watched.db')).withPlugin(watch));
  t.after(() => database.close());
  const made = Object.entries(storesOf(database, systemClock)) as unknown as [string, Methods][];
  const stores = made.map(([store, methods]) => {
    const watched = Object.entries(methods).map(([name, call]) => {
      const run = (...args: unknown[]) => {
        called.add(`${store}.${name}`);
        return method.run(`${store}.${name}`, () => call(...args));
      };
      return [name, run] as const;
    });
    return [store, Object.fromEntries(watched)] as const;
  });
  await neverMeet(Object.fromEntries(stores) as unknown as AllStores);
  const all = stores.flatMap(([store, methods]) => Object.keys(methods).map((name) => `${store}.${name}`));
  ok(all.length > 60, String(all.length));
  deepStrictEqual([...found].toSorted(), Object.keys(unbound).toSorted());
  deepStrictEqual(
    all.filter((name) => !called.has(name)),
    ['tenants.list', 'audit.last'],
  );
});
