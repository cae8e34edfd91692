import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MessagesRequest } from '@sallyport/simulator';
import { leftOut } from '../../../../test/support/needs.ts';
import { newUuid } from '../engine/ids.ts';
import type { RunOrder } from '../engine/ports.ts';
import { killJailed, never, order, startRunner, TestHost, until, type TestRunner } from './runner-support.ts';
import { partsOf } from './same-support.ts';
import type { SpareShape } from './spares.ts';

const limit = { timeout: 120_000 };
const setting = leftOut('runs in a jail', ['bwrap', 'socat']) ? 'none' : 'bwrap';
const tools = ['Read', 'Write', 'Glob'] as const;
const warm: SpareShape = { kind: 'warm', access: 'rw', tools, model: 'sallyport-simulator' };
const parked: SpareShape = { ...warm, kind: 'parked' };
const first = (changes: Parameters<typeof order>[0] = {}) =>
  order({ ...changes, profile: { tools, ...changes.profile } });
const write = { tools: [{ name: 'Write', input: { file_path: 'a.txt', content: 'canary' } }] };

const spares = ({ runner }: TestRunner) => runner.processes().filter(({ state }) => state === 'spare');
const pids = (one: TestRunner) => one.jails.live().map(({ pid }) => pid);

async function completed({ runner }: TestRunner, asked: RunOrder, host = new TestHost()): Promise<TestHost> {
  const end = await runner.run(asked, host, never);
  assert.deepEqual([end.reason, end.failure], ['end_turn', null]);
  return host;
}

for (const shape of [warm, parked]) {
  const profile = shape === warm ? {} : { systemPrompt: 'Be brief and blue.', effort: 'low' as const };

  test(`a first turn takes a ${shape.kind} spare, sends what a new process would, and goes on`, limit, async (t) => {
    const sent: string[][][] = [];
    for (const kept of [[shape], []]) {
      const one = await startRunner(t, { steps: [] }, { setting, spares: kept });
      await until(() => spares(one).length === kept.length);
      const before = pids(one);
      assert.deepEqual([one.simulator.requests.length, one.calls.length, one.transcripts.kept.size], [0, 0, 0]);
      one.simulator.play({ steps: [{ text: 'I write.', ...write }, { text: 'answer' }] });
      const asked = first({ keepFiles: true, stay: true, profile });
      const host = await completed(one, asked);
      assert.equal(host.text, 'I write.answer');
      if (kept.length > 0) assert.ok(pids(one).includes(before[0]!), 'it ran in the spare');
      const next = { ...asked, ref: { ...asked.ref, epoch: 2 }, resume: true, messageUuid: newUuid(), prompt: 'next' };
      one.simulator.play({ steps: [{ text: 'later' }] });
      await completed(one, next);
      await one.runner.free('acme', asked.sdkSession);
      const third = { ...next, ref: { ...asked.ref, epoch: 3 }, messageUuid: newUuid(), prompt: 'third' };
      await completed(one, third);
      sent.push(one.simulator.requests.map(({ body }) => partsOf(body as MessagesRequest)));
      assert.deepEqual(one.warnings, []);
    }
    const [spare = [], cold = []] = sent;
    assert.deepEqual([spare.length, cold.length], [4, 4]);
    for (const [index, parts] of spare.entries()) {
      const at = parts.findIndex((part, place) => part !== cold[index]?.[place]);
      assert.deepEqual([at, parts.length], [-1, cold[index]?.length], `call ${index}: ${parts[at]?.slice(0, 400)}`);
    }
  });

  test(`a ${shape.kind} spare that died is replaced, and a turn that meets a dead one runs once`, limit, async (t) => {
    const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting, spares: [shape] });
    await until(() => spares(one).length === 1);
    killJailed(one);
    // Nobody could have noticed before the turn is there.
    const host = await completed(one, first({ profile }));
    assert.deepEqual([host.text, one.simulator.requests.length], ['answer', 1]);
    await until(() => spares(one).length === 1);
    const [{ pid: dead } = { pid: 0 }] = spares(one);
    killJailed(one);
    // Without anybody who asks.
    await until(() => spares(one).some(({ pid }) => pid !== dead));
    assert.equal(one.simulator.requests.length, 1);
  });
}

test('spares give way to the processes of conversations, but for one', limit, async (t) => {
  const one = await startRunner(
    t,
    { steps: [{ text: 'answer' }] },
    { setting, spares: [warm, warm, warm], maxProcesses: 4 },
  );
  await until(() => spares(one).length === 3);
  const begun = [first({ stay: true }), first({ stay: true }), first({ stay: true })];
  for (const asked of begun) await completed(one, asked);
  await until(() => spares(one).length === 1 && pids(one).length === 4);
  const idle = () => one.runner.processes().filter(({ state }) => state === 'idle');
  const held = new Set(idle().map(({ pid }) => pid));
  assert.equal(held.size, 3);
  for (const epoch of [2, 3]) {
    for (const asked of begun) {
      const next = { ...asked, ref: { ...asked.ref, epoch }, resume: true, messageUuid: newUuid(), prompt: 'next' };
      await completed(one, next);
    }
  }
  assert.deepEqual(new Set(idle().map(({ pid }) => pid)), held);
  assert.deepEqual([spares(one).length, one.warnings], [1, []]);
});

test('a spare is made for what was asked for last, and taken by the first tenant that asks', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting, spares: [warm] });
  await until(() => spares(one).length === 1);
  const [{ pid } = { pid: 0 }] = spares(one);
  const reading = { profile: { tools: ['Read'] as const } };
  await completed(one, first(reading));
  await until(() => spares(one).length === 1 && spares(one)[0]!.pid !== pid);
  const [{ pid: other } = { pid: 0 }] = spares(one);
  const ref = { tenant: 'other', conversation: 'conv-1', turn: 'turn-1', epoch: 1 };
  let running: (number | undefined)[] = [];
  const host = new TestHost();
  host.ended = async () => {
    running = one.runner.processes().flatMap(({ state, pid: each }) => (state === 'running' ? [each] : []));
  };
  await completed(one, first({ ref, profile: { ...reading.profile, tenant: 'other' } }), host);
  assert.deepEqual(running, [other]);
});

test('a turn that comes while a spare is being made takes that one', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting, spares: [warm] });
  await until(() => one.runner.processes().length === 1);
  const [coming] = one.runner.processes();
  let running: (number | undefined)[] = [];
  const host = new TestHost();
  host.ended = async () => {
    running = one.runner.processes().flatMap(({ state, pid }) => (state === 'running' ? [pid] : []));
  };
  await completed(one, first(), host);
  assert.deepEqual([running, host.text, one.simulator.requests.length], [[coming?.pid], 'answer', 1]);
});

test('runs that fix more at the start take no spare', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting, spares: [warm] });
  await until(() => spares(one).length === 1);
  const [{ pid } = { pid: 0 }] = spares(one);
  await completed(one, first({ profile: { projectPath: one.project } }));
  await completed(one, first({ resume: true }));
  assert.deepEqual(
    spares(one).map((each) => each.pid),
    [pid],
  );
});

test('spares give way when the places are needed, and none is left at the end', limit, async (t) => {
  const one = await startRunner(
    t,
    { steps: [{ text: 'a ', rate: 1 }] },
    { setting, spares: [warm, warm], maxProcesses: 2 },
  );
  await until(() => spares(one).length === 2);
  one.simulator.play({ steps: [{ text: 'word '.repeat(60), rate: 50 }] });
  const project = () => first({ profile: { projectPath: one.project } });
  let most = 0;
  const host = Object.assign(new TestHost(), { delta: () => void (most = Math.max(most, pids(one).length)) });
  await Promise.all([completed(one, project(), host), completed(one, project(), host)]);
  assert.equal(most, 2);
  await one.runner.close();
  assert.deepEqual(pids(one), []);
});
