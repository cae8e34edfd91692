import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { openStores, type Stores } from '../stores/stores.ts';
import { aDirectory } from '../testing/directory.ts';
import { HandClock } from '../testing/limiter.ts';
import { anAccept } from '../testing/turns.ts';
import { Lease } from './nodes.ts';
import type { NodeStore } from './ports.ts';

/** Long enough that none of its own timers comes: the test beats and looks for it. */
const leaseMs = 1_000_000;

/** The clocks of a machine, of which a test may set the one on the wall. */
class MachineClock extends HandClock {
  wrongBy = 0;

  override now(): number {
    return super.now() + this.wrongBy;
  }
}

interface TestNode {
  readonly lease: Lease;
  readonly clock: MachineClock;
  /** What was done, in order. */
  readonly done: string[];
  /** True: the store does not answer. */
  cut: boolean;
}

async function aNode(t: TestContext, stores: Stores, place: string, lease: number | null = leaseMs): Promise<TestNode> {
  const clock = new MachineClock();
  const done: string[] = [];
  const reached = <T>(work: () => Promise<T>): Promise<T> =>
    node.cut ? Promise.reject(new Error('the store cannot be reached')) : work();
  const nodes: NodeStore = {
    ...stores.nodes,
    beat: (id) => reached(() => (done.push('beat'), stores.nodes.beat(id))),
    join: (id, at) => reached(() => stores.nodes.join(id, at)),
    list: () => reached(() => stores.nodes.list()),
  };
  const logger = { info() {}, warn() {}, error() {} };
  const node: TestNode = {
    lease: new Lease({ nodes, turns: stores.turns, clock, logger, place, leaseMs: lease }),
    clock,
    done,
    cut: false,
  };
  await node.lease.start({
    drop: async () => void done.push('drop'),
    takeUp: async (turns) => void done.push(...turns.map(({ turn }) => `take ${turn.ref.turn}`)),
  });
  t.after(() => node.lease.close());
  return node;
}

async function aStore(t: TestContext): Promise<Stores> {
  const stores = await openStores({ dataDir: aDirectory(t), clock: new HandClock() });
  t.after(() => stores.close());
  return stores;
}

const accept = (stores: Stores, conversation: string, { lease }: TestNode) =>
  stores.turns.accept({ ...anAccept(conversation), node: lease.node });

/** Lets time pass for all, in steps in which those beat that live, and each of the others looks. */
async function pass(leases: number, all: readonly TestNode[], living: readonly TestNode[]): Promise<void> {
  for (let step = 0; step < leases * 10; step += 1) {
    for (const { clock } of all) clock.pass(leaseMs / 10);
    for (const { lease } of living) await lease.beat();
    for (const { lease } of living) await lease.look();
  }
}

const takenBy = ({ done }: TestNode) => done.filter((what) => what.startsWith('take'));

test('who beats keeps its turns; who is silent loses them to one other within a lease, but long after it gave up', async (t) => {
  const stores = await aStore(t);
  const all = [await aNode(t, stores, 'a'), await aNode(t, stores, 'b'), await aNode(t, stores, 'c')] as const;
  await accept(stores, 'c', all[0]);
  await pass(3, all, all);
  assert.deepEqual(all.flatMap(takenBy), []);
  await pass(0.6, all, all.slice(1));
  assert.deepEqual([all.flatMap(takenBy), all[0].lease.held], [[], false]);
  await pass(0.3, all, all.slice(1));
  assert.deepEqual(all.flatMap(takenBy), ['take turn of c']);
  assert.deepEqual((await stores.nodes.list()).length, 2);
});

test('clocks on walls that jump by an hour or a day change nothing', async (t) => {
  const stores = await aStore(t);
  const all = [await aNode(t, stores, 'a'), await aNode(t, stores, 'b')] as const;
  await accept(stores, 'c', all[0]);
  for (const hours of [1, -1, 24, -24, 0]) {
    for (const [index, { clock }] of all.entries()) clock.wrongBy = (index === 0 ? hours : -hours) * 3_600_000;
    await pass(1.5, all, all);
    assert.deepEqual([all.map(({ lease }) => lease.held), all.flatMap(takenBy)], [[true, true], []], `${hours} h`);
  }
  all[1].clock.wrongBy = -24 * 3_600_000;
  await pass(1.2, all, all.slice(1));
  assert.deepEqual(takenBy(all[1]), ['take turn of c']);
});

test('who was frozen gives up before it says anything, then joins under another name and takes what is nobody’s', async (t) => {
  const stores = await aStore(t);
  const node = await aNode(t, stores, 'a');
  const old = node.lease.node;
  await accept(stores, 'c', node);
  node.clock.pass(3 * leaseMs);
  assert.equal(node.lease.held, false);
  assert.throws(() => node.lease.check(), { code: 'not_ready' });
  await node.lease.beat();
  assert.deepEqual(node.done, ['drop']);
  assert.notEqual(node.lease.node, old);
  assert.equal(node.lease.held, true);
  await node.lease.look();
  assert.deepEqual(node.done, ['drop', 'take turn of c']);
  assert.deepEqual(
    (await stores.nodes.list()).map(({ id }) => id),
    [node.lease.node],
  );
});

test('who cannot reach the store gives up after half a lease, and nobody takes over before that', async (t) => {
  const stores = await aStore(t);
  const all = [await aNode(t, stores, 'a'), await aNode(t, stores, 'b')] as const;
  const [cut, other] = all;
  await accept(stores, 'c', cut);
  await pass(1, all, all);
  cut.cut = true;
  for (let step = 1; step <= 12; step += 1) {
    await pass(0.1, all, [other]);
    await assert.rejects(step < 5 ? cut.lease.beat() : Promise.reject(new Error('none')));
    cut.lease.watch();
    assert.equal(cut.lease.held, step < 5, `step ${step}`);
    assert.equal(takenBy(other).length > 0, step >= 7, `step ${step}`);
  }
  assert.deepEqual([cut.done.filter((what) => what === 'drop'), takenBy(other)], [['drop'], ['take turn of c']]);
  await assert.rejects(cut.lease.beat());
  cut.cut = false;
  await cut.lease.beat();
  assert.equal(cut.lease.held, true);
  await pass(2, all, all);
  assert.deepEqual([takenBy(cut), (await stores.nodes.list()).length], [[], 2]);
});

test('who hears that it is not in the list any more gives up at once', async (t) => {
  const stores = await aStore(t);
  const node = await aNode(t, stores, 'a');
  await stores.nodes.leave(node.lease.node);
  await node.lease.beat();
  assert.deepEqual([node.done, node.lease.held], [['beat', 'drop'], false]);
  await node.lease.beat();
  assert.equal(node.lease.held, true);
});

test('what was left at the same place, or by who has left, is taken without waiting', async (t) => {
  const stores = await aStore(t);
  const [killed, other] = [await aNode(t, stores, 'a'), await aNode(t, stores, 'b')];
  await accept(stores, 'c', killed);
  await other.lease.look();
  assert.deepEqual(takenBy(other), []);
  const next = await aNode(t, stores, 'a');
  assert.deepEqual(takenBy(next), ['take turn of c']);
  await accept(stores, 'd', next);
  await next.lease.close();
  assert.equal(next.lease.held, false);
  await other.lease.look();
  assert.deepEqual(takenBy(other).toSorted(), ['take turn of c', 'take turn of d']);
});

test('who rests takes nothing over, and beats on', async (t) => {
  const stores = await aStore(t);
  const node = await aNode(t, stores, 'a');
  await stores.turns.accept({ ...anAccept('c'), node: 'never there' });
  node.lease.rest();
  await node.lease.look();
  await node.lease.beat();
  assert.deepEqual([node.done, node.lease.held], [['beat'], true]);
});

test('without others there is no lease to lose', async (t) => {
  const stores = await aStore(t);
  const node = await aNode(t, stores, 'a', null);
  node.clock.pass(100 * leaseMs);
  node.lease.watch();
  assert.deepEqual([node.lease.held, node.lease.shared, node.done], [true, false, []]);
});
