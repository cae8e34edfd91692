import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import type { MessagesRequest } from '@sallyport/simulator';
import { leftOut } from '../../../../test/support/needs.ts';
import { newUuid } from '../engine/ids.ts';
import type { RunOrder } from '../engine/ports.ts';
import { keptVersion } from './kept-support.ts';
import { never, order, startRunner, TestHost, until, type TestRunner } from './runner-support.ts';
import { partsOf } from './same-support.ts';

const limit = { timeout: 120_000 };
const setting = leftOut('runs in a jail', ['bwrap', 'socat']) ? 'none' : 'bwrap';
const write = (content: string) => ({ tools: [{ name: 'Write', input: { file_path: 'a.txt', content } }] });
const read = { tools: [{ name: 'Read', input: { file_path: 'a.txt' } }] };
const pids = ({ jails }: TestRunner) => jails.live().map(({ pid }) => pid);

async function completed({ runner }: TestRunner, asked: RunOrder): Promise<void> {
  const end = await runner.run(asked, new TestHost(), never);
  assert.deepEqual([end.reason, end.failure], ['end_turn', null]);
}

/** A conversation that has had one turn, and whose process has gone. */
async function left(one: TestRunner) {
  one.simulator.play({ steps: [write('one'), { text: 'first' }] });
  const first = order({ keepFiles: true, stay: true, profile: { tools: ['Read', 'Write'] } });
  await completed(one, first);
  await one.runner.free('acme', first.sdkSession);
  assert.deepEqual(pids(one), []);
  const at = (epoch: number) => ({ ...first, ref: { ...first.ref, epoch }, resume: true });
  const turn = (epoch: number) => ({ ...at(epoch), messageUuid: newUuid(), prompt: `prompt ${epoch}` });
  return { first, at, turn };
}

test(
  'a conversation that was warmed goes on in that process, which sends what a resumed one would',
  limit,
  async (t) => {
    const sent: string[][][] = [];
    for (const warmed of [true, false]) {
      const one = await startRunner(t, { steps: [] }, { setting });
      const { first, at, turn } = await left(one);
      const before = JSON.stringify(one.transcripts.kept.get(`acme/${first.sdkSession}`));
      if (warmed) await Promise.all([one.runner.warm(at(1)), one.runner.warm(at(1))]);
      const [pid, ...more] = pids(one);
      assert.deepEqual([typeof pid, more], [warmed ? 'number' : 'undefined', []]);
      assert.equal(JSON.stringify(one.transcripts.kept.get(`acme/${first.sdkSession}`)), before, 'nothing is written');
      one.simulator.play({ steps: [read, write('two'), { text: 'second' }] });
      await completed(one, turn(2));
      if (warmed) assert.deepEqual(pids(one), [pid]);
      await one.runner.free('acme', first.sdkSession);
      one.simulator.play({ steps: [read, { text: 'third' }] });
      await completed(one, turn(3));
      assert.match(JSON.stringify(one.simulator.requests.at(-1)?.body?.messages.at(-1)), /two/);
      sent.push(one.simulator.requests.map(({ body }) => partsOf(body as MessagesRequest)));
      assert.deepEqual(one.warnings, []);
    }
    assert.deepEqual(sent[0], sent[1]);
  },
);

test('a turn that comes while its conversation is warmed waits for that process', limit, async (t) => {
  const one = await startRunner(t, { steps: [] }, { setting });
  const { at, turn } = await left(one);
  one.simulator.play({ steps: [{ text: 'second' }] });
  const warming = one.runner.warm(at(1));
  await completed(one, turn(2));
  await warming;
  assert.equal(pids(one).length, 1);
});

test(
  'a process that was warmed before another turn was run is not used, and its files are not kept',
  limit,
  async (t) => {
    const one = await startRunner(t, { steps: [] }, { setting });
    const { first, at, turn } = await left(one);
    await one.runner.warm(at(1));
    const [stale] = pids(one);
    // As another server would have it.
    one.simulator.play({ steps: [read, { text: 'third' }] });
    await completed(one, turn(3));
    assert.ok(!pids(one).includes(stale!));
    assert.deepEqual(await readdir(await keptVersion(one)), ['a.txt']);
    await one.runner.warm(at(3));
    await one.runner.forget('acme', first.sdkSession);
    assert.deepEqual([pids(one), await readdir(one.keptDir)], [[], []]);
  },
);

test('a process that waits gives way to one that is warmed', limit, async (t) => {
  const one = await startRunner(t, { steps: [] }, { setting, maxProcesses: 1 });
  const { at } = await left(one);
  one.simulator.play({ steps: [{ text: 'other' }] });
  await completed(one, order({ stay: true }));
  const [before] = pids(one);
  await one.runner.warm(at(1));
  assert.equal(pids(one).length, 1);
  assert.ok(!pids(one).includes(before!));
});

test('nothing is warmed when there is no room, or the service ends', limit, async (t) => {
  const one = await startRunner(t, { steps: [] }, { setting, maxProcesses: 1 });
  const { at } = await left(one);
  const stop = new AbortController();
  one.simulator.play({ steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  const host = new TestHost();
  const running = one.runner.run(order(), host, stop.signal);
  await until(() => host.deltas.length > 0);
  const before = pids(one);
  await one.runner.warm(at(1));
  assert.deepEqual(pids(one), before);
  stop.abort();
  assert.equal((await running).reason, 'interrupted');
  await one.runner.close();
  await one.runner.warm(at(1));
  assert.deepEqual(pids(one), []);
});
