import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  defaultBounds,
  permissionModes,
  queryRequest,
  rights,
  toolNames,
  type PermissionMode,
  type QueryRequest,
  type ToolName,
} from '@sallyport/protocol';
import fc from 'fast-check';
import { SallyportError } from './errors.ts';
import { beyond, closed, inherited, narrowingOf, narrowingShape } from './narrowing.ts';
import { decideProfile, rootsOf, type PolicySettings } from './policy.ts';
import type { Budgets, Narrowing, RateLimits } from './ports.ts';
import { mayUse, type Principal, type Reach, type Role } from './principal.ts';

// What a key may is found out by trying everything here, and never by comparing narrowings.
const models = ['large', 'small', 'new'];
const paths = ['/', '/a', '/a/b', '/a/b/c', '/ab', '/a b', '/d', '/a/bc'];
const amounts = [0, 1, 2, 5];
const times = [10, 20, 30];
const roles: readonly Role[] = ['admin', 'operator', 'user', 'viewer'];

const settings: PolicySettings = { models, defaultModel: 'large', openToolsUnasked: true };
const request = queryRequest(defaultBounds);
const requests = new Map(
  permissionModes.flatMap((mode) =>
    [[], ...toolNames.map((tool) => [tool])].flatMap((tools) =>
      models.map((model): [string, QueryRequest] => {
        const asked = { prompt: 'x', permission_mode: mode, allowed_tools: tools, model };
        return [JSON.stringify([mode, tools, model]), request.parse(asked)];
      }),
    ),
  ),
);

const principalOf = (reach: Reach): Principal => ({ tenant: 'default', key: 'k', secretHash: null, ...reach });

/** True when the policy gives a run to the key. */
function runs(principal: Principal, asked: QueryRequest): boolean {
  try {
    decideProfile(principal, asked, null, settings);
    return true;
  } catch (error) {
    assert.ok(error instanceof SallyportError && error.status === 403, String(error));
    return false;
  }
}

const below = (root: string, path: string): boolean =>
  path === root || path.startsWith(root === '/' ? '/' : `${root}/`);

/** Everything that a key may do, as texts, by the part that gives or takes it. */
function doings(reach: Reach): Readonly<Record<string, ReadonlySet<string>>> {
  const principal = principalOf(reach);
  const { narrowing, expiresAt } = reach;
  const possible = [...requests].filter(([, asked]) => runs(principal, asked)).map(([name]) => name);
  const roots = rootsOf(principal, ['/']);
  const rate = (part: keyof RateLimits) => {
    const most = narrowing?.rates?.[part] ?? 0;
    return [...amounts, 1e9].filter((sent) => most === 0 || sent <= most).map((sent) => `${part} ${sent}`);
  };
  const budget = (part: keyof Budgets) => {
    const most = narrowing?.budgets?.[part] ?? Infinity;
    return [...amounts, 1e9].filter((spent) => spent <= most).map((spent) => `${part} ${spent}`);
  };
  return {
    role: new Set(rights.filter((right) => mayUse(principal, right))),
    runs: new Set(possible),
    'narrowing.workspace_roots': new Set(paths.filter((path) => roots.some((root) => below(root, path)))),
    'narrowing.rates': new Set([...rate('perMinute'), ...rate('perHour'), ...rate('burst')]),
    'narrowing.budgets': new Set([...budget('run'), ...budget('conversation'), ...budget('day'), ...budget('month')]),
    expires_in: new Set([...times, 1e15].filter((at) => expiresAt === null || at < expiresAt).map(String)),
  };
}

/** The parts in which a key may do what another may not. */
function moreIn(key: Reach, other: Reach): string[] {
  const [own, others] = [doings(key), doings(other)];
  return Object.keys(own).filter((part) => !own[part]?.isSubsetOf(others[part] ?? new Set()));
}

/** What of the runs alone a part decides: tried with the other parts of the one that gives. */
function moreRuns(key: Reach, giver: Reach, part: 'permissionModes' | 'tools' | 'models'): boolean {
  if (giver.narrowing === null) return false;
  const only: Reach = { ...giver, narrowing: { ...giver.narrowing, [part]: key.narrowing?.[part] ?? null } };
  return moreIn(only, giver).includes('runs');
}

/** Whether a part by its name, as a refusal names it, is more. */
function isMoreIn(part: string, key: Reach, giver: Reach): boolean {
  if (part === 'narrowing.permission_modes') return moreRuns(key, giver, 'permissionModes');
  if (part === 'narrowing.tools') return moreRuns(key, giver, 'tools');
  if (part === 'narrowing.models') return moreRuns(key, giver, 'models');
  return moreIn(key, giver).includes(part);
}

const open = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(value, { freq: 2 });
const amount = fc.constantFrom(...amounts);
const plain = { noNullPrototype: true };
const aNarrowing: fc.Arbitrary<Narrowing> = fc.record(
  {
    permissionModes: open(fc.subarray<PermissionMode>([...permissionModes], { minLength: 1 })),
    tools: open(fc.subarray<ToolName>([...toolNames])),
    models: open(fc.subarray(models, { minLength: 1 })),
    workspaceRoots: open(fc.subarray(paths, { maxLength: 3 })),
    rates: open(fc.record({ perMinute: amount, perHour: amount, burst: amount }, { ...plain, requiredKeys: [] })),
    budgets: open(
      fc.record({ run: open(amount), conversation: open(amount), day: open(amount), month: open(amount) }, plain),
    ),
  },
  plain,
);
const aReach: fc.Arbitrary<Reach> = fc.record({
  role: fc.constantFrom(...roles),
  narrowing: open(aNarrowing),
  expiresAt: open(fc.constantFrom(...times)),
});

/** Some of what a key may, so that not nearly everything is refused: parts are left open, as they are, or anything. */
const someOf = (giver: Reach): fc.Arbitrary<Reach> =>
  fc.tuple(aReach, fc.array(fc.boolean(), { minLength: 8, maxLength: 8 })).map(([reach, keep]) => {
    const own = giver.narrowing;
    const any = reach.narrowing;
    const part = <P extends keyof Narrowing>(name: P, at: number) => (keep[at] ? own?.[name] : any?.[name]) ?? null;
    return {
      role: keep[6] ? giver.role : reach.role,
      expiresAt: keep[7] ? giver.expiresAt : reach.expiresAt,
      narrowing: {
        permissionModes: part('permissionModes', 0),
        tools: part('tools', 1),
        models: part('models', 2),
        workspaceRoots: part('workspaceRoots', 3),
        rates: part('rates', 4),
        budgets: part('budgets', 5),
      },
    };
  });
const aPair = aReach.chain((giver) => fc.tuple(fc.constant(giver), fc.oneof(aReach, someOf(giver))));

test('a key is given exactly when it may do nothing that its giver may not, and a refusal names a part that is more', () => {
  let given = 0;
  fc.assert(
    fc.property(aPair, ([giver, wanted]) => {
      const key = closed(wanted, giver);
      const part = beyond(key, giver);
      const more = moreIn(key, giver);
      assert.equal(part === null, more.length === 0, `${part} and ${more.join()}`);
      if (part === null) given += 1;
      else assert.ok(isMoreIn(part, key, giver), part);
    }),
    { numRuns: 400 },
  );
  assert.ok(given > 0);
});

test('over three generations nobody gets more than the first has', () => {
  let generations = 0;
  const aLine = fc.tuple(aReach, fc.infiniteStream(fc.nat({ max: 2 ** 31 - 1 })));
  fc.assert(
    fc.property(aLine, ([first, seeds]) => {
      let giver = first;
      for (let age = 0; age < 3; age += 1) {
        const wishes = fc.sample(someOf(giver), { seed: seeds.next().value, numRuns: 8 });
        const given = wishes.map((wish) => closed(wish, giver)).find((key) => beyond(key, giver) === null);
        if (given === undefined) return;
        assert.deepEqual(moreIn(given, first), []);
        giver = given;
        generations += 1;
      }
    }),
    { numRuns: 60 },
  );
  assert.ok(generations > 0);
});

/** What a giver has, with some parts, and parts of budgets, left open. */
function someOpen({ narrowing }: Reach, keep: (part: string) => boolean): Narrowing | null {
  if (narrowing === null) return null;
  const opened = <T extends object>(value: T): T =>
    Object.fromEntries(Object.entries(value).map(([name, part]) => [name, keep(name) ? part : null])) as T;
  const { budgets, ...parts } = opened(narrowing);
  return { ...parts, budgets: budgets && opened(budgets) };
}

test('what is left open is taken from the giver, so that a key that asks for no more is given just what its giver has', () => {
  fc.assert(
    fc.property(aReach, fc.func(fc.boolean()), (giver, keep) => {
      const key = closed({ role: giver.role, narrowing: someOpen(giver, keep), expiresAt: null }, giver);
      assert.equal(beyond(key, giver), null);
      assert.deepEqual([moreIn(key, giver), moreIn(giver, key)], [[], []]);
    }),
    { numRuns: 100 },
  );
});

test('filling the open parts never widens what was wanted', () => {
  fc.assert(
    fc.property(aPair, ([giver, wanted]) => {
      const narrowing = inherited(wanted.narrowing, giver.narrowing);
      assert.deepEqual(moreIn({ ...wanted, narrowing }, wanted), []);
    }),
    { numRuns: 100 },
  );
});

test('a narrowing comes back as clients read it', () => {
  fc.assert(
    fc.property(aNarrowing, (narrowing) => assert.deepEqual(narrowingOf(narrowingShape(narrowing)), narrowing)),
  );
});

const unnarrowed: Reach = { role: 'admin', narrowing: null, expiresAt: null };
const narrowedTo = (part: Partial<Narrowing>): Reach => ({
  ...unnarrowed,
  narrowing: {
    permissionModes: null,
    tools: null,
    models: null,
    workspaceRoots: null,
    rates: null,
    budgets: null,
    ...part,
  },
});

test('a key that is more in one part only is refused with its name', () => {
  const giver: Reach = {
    role: 'operator',
    expiresAt: 20,
    narrowing: {
      permissionModes: ['readOnly'],
      tools: ['Read'],
      models: ['small'],
      workspaceRoots: ['/a'],
      rates: { perMinute: 2 },
      budgets: { run: null, conversation: null, day: null, month: 2 },
    },
  };
  const more: [string, Partial<Reach>, Partial<Narrowing>][] = [
    ['role', { role: 'user' }, {}],
    ['expires_in', { expiresAt: 30 }, {}],
    ['narrowing.permission_modes', {}, { permissionModes: ['readOnly', 'strict'] }],
    ['narrowing.tools', {}, { tools: ['Read', 'Bash'] }],
    ['narrowing.models', {}, { models: ['large'] }],
    ['narrowing.workspace_roots', {}, { workspaceRoots: ['/a/b', '/'] }],
    ['narrowing.rates', {}, { rates: { perMinute: 5 } }],
    ['narrowing.budgets', {}, { budgets: { run: 1, conversation: 1, day: 1, month: 5 } }],
  ];
  assert.equal(beyond(giver, giver), null);
  for (const [part, reach, narrowing] of more) {
    const key = { ...giver, ...reach, narrowing: { ...giver.narrowing, ...narrowing } as Narrowing };
    assert.equal(beyond(key, giver), part);
  }
});

test('a directory whose name begins like that of a root is not inside it', () => {
  const giver = narrowedTo({ workspaceRoots: ['/a'] });
  assert.equal(beyond(narrowedTo({ workspaceRoots: ['/ab'] }), giver), 'narrowing.workspace_roots');
  assert.equal(beyond(narrowedTo({ workspaceRoots: ['/a/b'] }), giver), null);
});

test('no limit, and the limit of the service, are more than a limit of the giver', () => {
  const giver = narrowedTo({ rates: { perHour: 5 } });
  for (const rates of [{ perHour: 0 }, { perHour: 6 }, { perMinute: 1 }, null]) {
    assert.equal(beyond(narrowedTo({ rates }), giver), 'narrowing.rates');
  }
  assert.equal(beyond(narrowedTo({ rates: { perHour: 5, perMinute: 100 } }), giver), null);
});
