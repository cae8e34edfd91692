import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import type { MessagesRequest } from '@sallyport/simulator';
import { leftOut } from '../../../../test/support/needs.ts';
import { newUuid } from '../engine/ids.ts';
import type { RunOrder } from '../engine/ports.ts';
import { keptVersion } from './kept-support.ts';
import { killJailed, never, order, startRunner, TestHost, until, type TestRunner } from './runner-support.ts';
import { partsOf } from './same-support.ts';

const limit = { timeout: 120_000 };
const setting = leftOut('runs in a jail', ['bwrap', 'socat']) ? 'none' : 'bwrap';
const tools = ['Read', 'Write', 'Edit', 'Glob', 'Grep'] as const;
const oneShot = (changes: Parameters<typeof order>[0] = {}) =>
  order({ ...changes, profile: { tools, ...changes.profile } });
const write = (file_path: string, content: string) => ({ tools: [{ name: 'Write', input: { file_path, content } }] });
const read = (file_path: string) => ({ tools: [{ name: 'Read', input: { file_path } }] });

const pids = ({ jails }: TestRunner) => jails.live().map(({ pid }) => pid);

async function completed({ runner }: TestRunner, asked: RunOrder, host = new TestHost()): Promise<TestHost> {
  const end = await runner.run(asked, host, never);
  assert.deepEqual([end.reason, end.failure], ['end_turn', null]);
  return host;
}

const start = (t: TestContext, script: Parameters<typeof startRunner>[1], sessions = 100) =>
  startRunner(t, script, { setting, sessions });

test('the process of a one-shot runs the next one of the same tenant and settings', limit, async (t) => {
  const one = await start(t, { steps: [write('a.txt', 'canary-one'), { text: 'first' }] });
  const first = oneShot();
  await completed(one, first);
  const [pid] = pids(one);
  for (const number of [2, 3]) {
    one.simulator.play({ steps: [read('/workspace/a.txt'), { text: `answer ${number}` }] });
    const next = oneShot({ prompt: `prompt ${number}`, profile: { permissionMode: 'readOnly' } });
    const host = await completed(one, next);
    assert.deepEqual([host.text, pids(one)], [`answer ${number}`, [pid]]);
    const sent = JSON.stringify(one.simulator.requests.slice(-2).map(({ body }) => body));
    assert.doesNotMatch(sent, /canary-one|"first"|local-command|\/clear/);
    assert.match(sent, /does not exist/, 'the file of the first one is gone');
    const stored = one.transcripts.kept.get(`acme/${next.sdkSession}`) ?? [];
    assert.deepEqual(new Set(stored.flatMap(({ sessionId }) => sessionId ?? [])), new Set([next.sdkSession]));
    assert.doesNotMatch(JSON.stringify(stored.filter(({ type }) => type === 'user')), /local-command|canary/);
  }
  assert.equal(one.transcripts.kept.size, 3);
  assert.deepEqual(one.warnings, []);
});

test(
  'the model is sent the same by a process that was cleared as by a new one, and so is what goes on',
  limit,
  async (t) => {
    const steps = [{ text: 'I look.', ...read('given') }, write('b.txt', 'x'), { text: 'answer' }];
    const files = [{ path: 'given', content: 'canary-given' }];
    const sent: string[][][] = [];
    for (const sessions of [100, 1]) {
      const one = await start(t, { steps: [{ text: 'before' }] }, sessions);
      await completed(one, oneShot({ prompt: 'something else', files: [{ path: 'other', content: 'canary-other' }] }));
      one.simulator.play({ steps });
      const asked = oneShot({ keepFiles: true, files });
      await completed(one, asked);
      const ref = { ...asked.ref, epoch: 2 };
      const later = { ...asked, ref, resume: true, messageUuid: newUuid(), files: [], prompt: 'go on' };
      one.simulator.play({ steps: [read('b.txt'), { text: 'later' }] });
      await completed(one, later);
      sent.push(one.simulator.requests.slice(1).map(({ body }) => partsOf(body as MessagesRequest)));
    }
    const [cleared = [], fresh = []] = sent;
    assert.deepEqual([cleared.length, fresh.length], [5, 5]);
    for (const [index, parts] of cleared.entries()) {
      const at = parts.findIndex((part, place) => part !== fresh[index]?.[place]);
      assert.deepEqual([at, parts.length], [-1, fresh[index]?.length], `call ${index}: ${parts[at]?.slice(0, 400)}`);
    }
  },
);

test('another tenant, other tools, another model, prompt or schema get another process', limit, async (t) => {
  const one = await start(t, { steps: [{ text: 'answer' }] });
  await completed(one, oneShot());
  const [pid] = pids(one);
  const others: Parameters<typeof order>[0][] = [
    { profile: { tools: ['Read'] } },
    { profile: { systemPrompt: 'Be brief.' } },
    { profile: { access: 'ro' } },
    { profile: { effort: 'low' } },
    { profile: { projectPath: one.project } },
    { profile: { tenant: 'other' }, ref: { tenant: 'other', conversation: 'conv-o', turn: 'turn-o', epoch: 1 } },
  ];
  for (const changes of others) {
    const before = pids(one);
    await completed(one, oneShot(changes));
    const more = pids(one).filter((each) => !before.includes(each));
    assert.equal(more.length, 1, JSON.stringify(changes));
  }
  await completed(one, oneShot());
  // Of four places these took the oldest away.
  assert.ok(!pids(one).includes(pid!) || pids(one).length <= 4);
});

test('the first turn of a conversation takes a process that was cleared, and keeps its files', limit, async (t) => {
  const one = await start(t, { steps: [{ text: 'answer' }] });
  await completed(one, oneShot());
  const [pid] = pids(one);
  one.simulator.play({ steps: [write('a.txt', 'canary'), { text: 'first' }] });
  const first = oneShot({ keepFiles: true, stay: true });
  await completed(one, first);
  assert.deepEqual(pids(one), [pid]);
  one.simulator.play({ steps: [read('a.txt'), { text: 'second' }] });
  const second = { ...first, ref: { ...first.ref, epoch: 2 }, resume: true, messageUuid: newUuid(), prompt: 'next' };
  await completed(one, second);
  assert.deepEqual(pids(one), [pid]);
  await one.runner.free('acme', first.sdkSession);
  assert.deepEqual(pids(one), []);
  const third = { ...second, ref: { ...first.ref, epoch: 3 }, messageUuid: newUuid(), prompt: 'third' };
  await completed(one, third);
  const messages = JSON.stringify(one.simulator.requests.at(-1)?.body?.messages);
  for (const text of ['"Hello"', '"next"', '"third"']) assert.equal(messages.split(text).length, 2, text);
  assert.doesNotMatch(messages, /local-command/);
  assert.deepEqual(await readdir(await keptVersion(one)), ['a.txt']);
});

test('a process that is dead before it is used again is replaced, and the prompt is run once', limit, async (t) => {
  const one = await start(t, { steps: [{ text: 'answer' }] });
  await completed(one, oneShot());
  await until(() => one.runner.processes().some(({ sessions }) => sessions === 2));
  killJailed(one);
  const before = one.simulator.requests.length;
  await completed(one, oneShot({ prompt: 'only once' }));
  assert.equal(one.simulator.requests.length, before + 1);
  await until(() => pids(one).length === 1);
});

test(
  'a process that is killed while it is cleared is dropped, and whoever waits for it gets another',
  limit,
  async (t) => {
    const one = await start(t, { steps: [{ text: 'answer' }] });
    await completed(one, oneShot());
    killJailed(one);
    const host = await completed(one, oneShot());
    assert.equal(host.text, 'answer');
    assert.equal(one.simulator.requests.length, 2);
  },
);

test('a process is not used again after a command, a failure, a stop, or when it is old', limit, async (t) => {
  const one = await start(t, { steps: [] }, 2);
  const bash = { tools: [{ name: 'Bash', input: { command: 'echo done' } }] };
  const batch = Object.assign(new TestHost(), { batchEnded: async () => 'stop' });
  const all = { profile: { tools: [...tools, 'Bash'] as const } };
  const cases = [
    { script: { steps: [bash, { text: 'done' }] }, reason: 'end_turn' },
    { script: { steps: [{ fault: { kind: 'status', status: 400 } as const }] }, reason: 'error' },
    { script: () => ({ text: 'No.', stop_reason: 'refusal' }), reason: 'refusal' },
    { script: { steps: [read('/workspace/x'), { text: 'no' }] }, reason: 'stopped', host: batch },
  ];
  for (const { script, reason, host = new TestHost() } of cases) {
    one.simulator.play(script);
    assert.equal((await one.runner.run(oneShot(all), host, never)).reason, reason);
    assert.deepEqual(pids(one), [], reason);
  }
  one.simulator.play({ steps: [{ text: 'answer' }] });
  const seen = new Set<number>();
  for (let number = 0; number < 4; number += 1) {
    await completed(one, oneShot());
    for (const pid of pids(one)) seen.add(pid);
  }
  assert.equal(seen.size, 2, 'two runs for each');
});

test('one-shots in a project use its process again, unless another directory is in its place', limit, async (t) => {
  const one = await start(t, { steps: [{ text: 'answer' }] });
  const inProject = () => oneShot({ profile: { projectPath: one.project } });
  one.simulator.play({ steps: [write(`${one.project}/a.txt`, 'kept'), { text: 'done' }] });
  await completed(one, inProject());
  const [pid] = pids(one);
  one.simulator.play({ steps: [read(`${one.project}/a.txt`), { text: 'done' }] });
  await completed(one, inProject());
  assert.deepEqual([pids(one), await readdir(one.project)], [[pid], ['a.txt']]);
  const { rename, mkdir, chmod } = await import('node:fs/promises');
  await rename(one.project, `${one.project}-moved`);
  await mkdir(one.project);
  await chmod(one.project, 0o777);
  await completed(one, inProject());
  await until(() => pids(one).length === 1);
  assert.notDeepEqual(pids(one), [pid]);
  assert.match(JSON.stringify(one.simulator.requests.at(-1)?.body), /does not exist/);
});

test('a structured answer comes from a process that was cleared too', limit, async (t) => {
  const outputSchema = { type: 'object', properties: { n: { type: 'number' } }, required: ['n'] };
  const one = await start(t, { steps: [] });
  for (const n of [1, 2]) {
    one.simulator.play({ steps: [{ tools: [{ name: 'StructuredOutput', input: { n } }] }, { text: 'done' }] });
    const end = await one.runner.run(oneShot({ profile: { outputSchema } }), new TestHost(), never);
    assert.deepEqual([end.reason, end.structuredOutput], ['end_turn', { n }]);
  }
  assert.equal(pids(one).length, 1);
});
