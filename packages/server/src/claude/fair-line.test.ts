import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FairLine, type Comer } from './fair-line.ts';

interface Waiting extends Comer {
  readonly nth: number;
}

/** What `FairLine` promises, told without its means: each tenant and key has the number of its last turn, or of its coming. */
class PlainLine {
  readonly all: Waiting[] = [];
  readonly #last = new Map<string, number>();
  #count = 0;

  #turn(name: string): void {
    this.#last.set(name, ++this.#count);
  }

  #isThere = (name: string) => this.all.some((each) => each.tenant === name || keyOf(each) === name);

  add(waiting: Waiting): void {
    for (const name of [waiting.tenant, keyOf(waiting)]) if (!this.#isThere(name)) this.#turn(name);
    this.all.push(waiting);
  }

  remove(waiting: Waiting): void {
    const at = this.all.indexOf(waiting);
    if (at >= 0) this.all.splice(at, 1);
  }

  shift(): Waiting | null {
    const rank = (name: string) => this.#last.get(name) ?? 0;
    const order = (a: Waiting, b: Waiting) =>
      rank(a.tenant) - rank(b.tenant) || rank(keyOf(a)) - rank(keyOf(b)) || a.nth - b.nth;
    const next = this.all.toSorted(order)[0] ?? null;
    if (next === null) return null;
    this.remove(next);
    this.#turn(next.tenant);
    this.#turn(keyOf(next));
    return next;
  }
}

const keyOf = ({ tenant, key }: Comer): string => `${tenant}/${key}`;

const comer = fc.record({ tenant: fc.constantFrom('a', 'b', 'c'), key: fc.constantFrom('1', '2', '3') });
const act = fc.oneof(
  { weight: 6, arbitrary: fc.record({ act: fc.constant('add' as const), who: comer }) },
  { weight: 3, arbitrary: fc.record({ act: fc.constant('shift' as const) }) },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('remove' as const), which: fc.nat() }) },
);
const acts = fc.array(act, { maxLength: 60 });
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;

/** Does the same in both lines and gives them, with what takes each out of the first. */
function played(all: readonly Act[]) {
  const line = new FairLine<Waiting>();
  const plain = new PlainLine();
  const removals = new Map<Waiting, () => void>();
  for (const [nth, each] of all.entries()) {
    if (each.act === 'add') {
      const waiting = { ...each.who, nth };
      removals.set(waiting, line.add(each.who, waiting));
      plain.add(waiting);
    } else if (each.act === 'shift') {
      assert.equal(line.shift(), plain.shift());
    } else {
      const waiting = plain.all[each.which % plain.all.length];
      if (waiting) {
        plain.remove(waiting);
        removals.get(waiting)?.();
        removals.get(waiting)?.();
      }
    }
    assert.equal(line.size, plain.all.length);
  }
  return { line, plain, removals };
}

function emptied(line: { shift(): Waiting | null }): Waiting[] {
  const all: Waiting[] = [];
  for (let next = line.shift(); next !== null; next = line.shift()) all.push(next);
  return all;
}

test('tenants take turns, within them their keys, and within a key the first comes first', () => {
  fc.assert(
    fc.property(acts, (all) => {
      const { line, plain, removals } = played(all);
      const expected = emptied(plain);
      assert.deepEqual([...line.inOrder()], expected);
      assert.deepEqual(emptied(line), expected);
      for (const remove of removals.values()) remove();
      assert.equal(line.size, 0);
    }),
  );
});

test('who would come is told how many are served before', () => {
  fc.assert(
    fc.property(acts, comer, (all, who) => {
      const { line } = played(all);
      const before = line.before(who);
      const mine = { ...who, nth: Infinity };
      line.add(who, mine);
      assert.equal([...line.inOrder()].indexOf(mine), before);
    }),
  );
});

test('the newest of those with the most gives way, and only to somebody with fewer', () => {
  fc.assert(
    fc.property(acts, comer, (all, who) => {
      const { line, plain } = played(all);
      const count = (is: (one: Waiting) => boolean) => plain.all.filter(is).length;
      const ofTenant = ({ tenant }: Comer) => count((one) => one.tenant === tenant);
      const ofKey = (of: Comer) => count((one) => keyOf(one) === keyOf(of));
      const most = Math.max(0, ...plain.all.map(ofTenant));
      const mostOfOwn = Math.max(0, ...plain.all.filter(({ tenant }) => tenant === who.tenant).map(ofKey));
      const gives = line.givingWay(who);
      if (gives === null) {
        assert.ok(ofTenant(who) + 1 >= most && ofKey(who) + 1 >= mostOfOwn);
        return;
      }
      const others = plain.all.filter((one) => one.tenant === gives.tenant);
      assert.ok(others.every((one) => ofKey(one) <= ofKey(gives)));
      assert.ok(others.every((one) => keyOf(one) !== keyOf(gives) || one.nth <= gives.nth));
      if (gives.tenant === who.tenant) assert.ok(ofKey(who) + 1 < ofKey(gives) && ofTenant(who) + 1 >= most);
      else assert.ok(ofTenant(who) + 1 < ofTenant(gives) && ofTenant(gives) === most);
    }),
  );
});
