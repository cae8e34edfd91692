import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SallyportError } from '../engine/errors.ts';
import { createPlaces, type Leave } from './admission.ts';
import type { Comer } from './fair-line.ts';

/** What became of somebody who came. */
type State = 'waits' | 'in' | 'refused' | 'gone' | 'left';

/** Somebody who came. */
interface Visit {
  readonly who: Comer;
  readonly controller: AbortController;
  state: State;
  leave: Leave | null;
  retryAfter: number | undefined;
  /** How many were let in before it since it came, by tenant. */
  readonly before: Map<string, number>;
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A hall with places, and a clock that moves when it is told to. */
class Hall {
  readonly all: Visit[] = [];
  readonly places;
  now = 0;

  constructor(places: number, waiting: number) {
    const clock = { now: () => this.now, monotonic: () => this.now };
    this.places = createPlaces({ places, waiting, cores: Infinity, clock });
  }

  come(tenant: string, key = 'key', patienceMs = Infinity): Visit {
    const controller = new AbortController();
    const who = { tenant, key };
    const visit: Visit = { who, controller, state: 'waits', leave: null, retryAfter: undefined, before: new Map() };
    this.all.push(visit);
    void this.#enter(visit, patienceMs);
    return visit;
  }

  in = (state: State): Visit[] => this.all.filter((visit) => visit.state === state);

  leave(visit: Visit): void {
    visit.state = 'left';
    visit.leave?.();
  }

  async #enter(visit: Visit, patienceMs: number): Promise<void> {
    const { who, controller } = visit;
    try {
      visit.leave = await this.places.enter(who, controller.signal, { patienceMs });
      visit.state = visit.leave === null ? 'gone' : 'in';
      if (visit.leave === null) return;
      for (const { before } of this.in('waits')) before.set(who.tenant, (before.get(who.tenant) ?? 0) + 1);
    } catch (thrown) {
      assert.ok(thrown instanceof SallyportError && thrown.code === 'overloaded', String(thrown));
      visit.state = 'refused';
      visit.retryAfter = thrown.retryAfter;
    }
  }
}

/** All have left, and as many can come in as there are places, and as many wait as have room. */
async function isAsNew(hall: Hall, places: number, waiting: number): Promise<void> {
  for (let rest = hall.in('in'); rest.length > 0; rest = hall.in('in')) {
    for (const visit of rest) hall.leave(visit);
    await settle();
  }
  assert.equal(hall.in('waits').length, 0);
  assert.equal(hall.places.free, places);
  const again = Array.from({ length: places + waiting + 1 }, () => hall.come('again'));
  await settle();
  const states = again.map(({ state }) => state);
  const expected = [
    ...Array.from({ length: places }, () => 'in'),
    ...Array.from({ length: waiting }, () => 'waits'),
    'refused',
  ];
  assert.deepEqual(states, expected);
}

const size = { places: fc.integer({ min: 1, max: 4 }), waiting: fc.integer({ min: 0, max: 8 }) };
const tenants = ['a', 'b', 'c', 'd'];
const act = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      act: fc.constant('come' as const),
      tenant: fc.constantFrom(...tenants),
      key: fc.constantFrom('1', '2'),
    }),
  },
  { weight: 3, arbitrary: fc.record({ act: fc.constantFrom('leave' as const, 'abort' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('pass' as const), ms: fc.nat(20_000) }) },
);

test('whatever comes, no place is left free, no more wait than may, and refused is only who has its share', async () => {
  await fc.assert(
    fc.asyncProperty(fc.record(size), fc.array(act, { maxLength: 60 }), async ({ places, waiting }, acts) => {
      const hall = new Hall(places, waiting);
      for (const each of acts) {
        const held = hall.in('waits');
        if (each.act === 'pass') hall.now += each.ms;
        else if (each.act === 'come') hall.come(each.tenant, each.key);
        else if (each.act === 'leave') {
          const inside = hall.in('in');
          if (inside.length > 0) hall.leave(inside[each.which % inside.length] as Visit);
        } else held[each.which % held.length]?.controller.abort();
        await settle();
        const [inside, line] = [hall.in('in'), hall.in('waits')];
        assert.equal(hall.places.free, places - inside.length);
        assert.ok(line.length <= waiting);
        assert.ok(line.length === 0 || inside.length === places, 'nobody waits while a place is free');
        const room = tenants.filter((tenant) => line.some(({ who }) => who.tenant === tenant)).length < waiting;
        for (const visit of hall.in('refused')) {
          const seconds = visit.retryAfter ?? 0;
          assert.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60);
          // Whoever is refused has others of its own waiting, or every one in the line is the only one of its tenant.
          const own = line.some(({ who }) => who.tenant === visit.who.tenant);
          if (each.act === 'come' && visit === hall.all.at(-1)) assert.ok(own || !room, 'a tenant was kept out');
          if (held.includes(visit)) assert.ok(own, 'the only one of a tenant gave way');
        }
      }
      await isAsNew(hall, places, waiting);
    }),
  );
});

test('a tenant that asks one at a time is never refused, and others have at most a turn each before it', async () => {
  const flooding = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 12 });
  const rounds = fc.array(flooding, { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 5, max: 12 }),
      rounds,
      async (places, waiting, all) => {
        const hall = new Hall(places, waiting);
        const flood = (names: readonly string[]) => {
          for (const name of names) hall.come(name);
        };
        for (const names of all) {
          flood(names);
          await settle();
          const quiet = hall.come('quiet');
          await settle();
          while (quiet.state === 'waits') {
            flood(names);
            hall.leave(hall.in('in')[0] as Visit);
            await settle();
          }
          assert.equal(quiet.state, 'in');
          assert.ok(
            [...quiet.before.values()].every((turns) => turns <= 1),
            JSON.stringify([...quiet.before]),
          );
          hall.leave(quiet);
          await settle();
        }
      },
    ),
  );
});

test('asked for five times as much as it can do, it does all it can, refuses the rest, and keeps nothing', async () => {
  const load = fc.record({ ...size, steps: fc.integer({ min: 1, max: 6 }), patience: fc.integer({ min: 0, max: 30 }) });
  await fc.assert(
    fc.asyncProperty(load, async ({ places, waiting, steps, patience }) => {
      const hall = new Hall(places, waiting);
      const ends = new Map<Visit, number>();
      const stepMs = 1_000;
      const rounds = 40;
      let owed = 0;
      for (let step = 0; step < rounds; step += 1) {
        for (const visit of hall.in('in')) if ((ends.get(visit) ?? 0) <= step) hall.leave(visit);
        await settle();
        for (owed += (5 * places) / steps; owed >= 1; owed -= 1) {
          hall.come(tenants[hall.all.length % tenants.length] as string, 'key', patience * stepMs);
        }
        await settle();
        for (const visit of hall.in('in')) ends.set(visit, ends.get(visit) ?? step + steps);
        if (step > 0) assert.equal(hall.in('in').length, Math.min(places, hall.all.length), 'all places are used');
        hall.now += stepMs;
      }
      assert.equal(
        hall.all.length,
        hall.in('left').length + hall.in('in').length + hall.in('waits').length + hall.in('refused').length,
      );
      assert.ok(hall.in('left').length + places >= Math.floor((places * (rounds - 1)) / steps));
      await isAsNew(hall, places, waiting);
    }),
    { numRuns: 60 },
  );
});
