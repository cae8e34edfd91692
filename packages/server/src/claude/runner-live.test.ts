import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { newUuid } from '../engine/ids.ts';
import type { Profile, RunOrder } from '../engine/ports.ts';
import { identify } from './registry.ts';
import { keptVersion } from './kept-support.ts';
import { killJailed, never, order, startRunner, TestHost, until, type TestRunner } from './runner-support.ts';
import { partsOf } from './same-support.ts';

const limit = { timeout: 60_000 };
const setting = leftOut('runs in a jail', ['bwrap', 'socat']) ? 'none' : 'bwrap';
const write = (file_path: string, content: string) => ({ tools: [{ name: 'Write', input: { file_path, content } }] });
const read = (file_path: string) => ({ tools: [{ name: 'Read', input: { file_path } }] });

/** The orders of a conversation whose process may stay. */
function conversation(profile: Partial<Profile> = {}) {
  let last: RunOrder | null = null;
  return (changes: Partial<RunOrder> = {}): RunOrder => {
    const begun = order({
      profile: { tools: ['Read', 'Write', 'Edit', 'Bash'], ...profile },
      keepFiles: true,
      stay: true,
    });
    const ref = { ...begun.ref, epoch: last === null ? 1 : last.ref.epoch + 1 };
    const { sdkSession } = last ?? begun;
    last = {
      ...begun,
      ref,
      sdkSession,
      messageUuid: newUuid(),
      resume: last !== null,
      prompt: `prompt ${ref.epoch}`,
      ...changes,
    };
    return last;
  };
}

const pids = ({ jails }: TestRunner) => jails.live().map(({ pid }) => pid);

async function completed({ runner }: TestRunner, asked: RunOrder, host = new TestHost()): Promise<TestHost> {
  const end = await runner.run(asked, host, never);
  assert.deepEqual([end.reason, end.failure], ['end_turn', null]);
  return host;
}

test('a process stays for the next turn, which it runs with the past, and then for another', limit, async (t) => {
  const one = await startRunner(t, { steps: [write('a.txt', 'canary-1'), { text: 'first' }] }, { setting });
  const next = conversation();
  await completed(one, next());
  const [pid, ...more] = pids(one);
  assert.deepEqual([typeof pid, more], ['number', []]);
  for (const turn of [2, 3]) {
    one.simulator.play({ steps: [read('a.txt'), write(`b${turn}.txt`, 'b'), { text: `answer ${turn}` }] });
    const host = await completed(one, next());
    assert.deepEqual([host.types, pids(one)], [['allowed', 'tool_end', 'allowed', 'tool_end', 'text'], [pid]]);
    assert.deepEqual([host.text, host.lookedAtEnd], [`answer ${turn}`, 1]);
    const names = await readdir(await keptVersion(one));
    assert.deepEqual(names, ['a.txt', 'b2.txt', 'b3.txt'].slice(0, turn));
  }
  const messages = JSON.stringify(one.simulator.requests.at(-1)?.body?.messages);
  for (const text of ['prompt 1', 'prompt 2', 'prompt 3']) assert.equal(messages.split(`"${text}`).length, 2, text);
  const entries = one.transcripts.kept.values().next().value ?? [];
  assert.equal(entries.filter(({ type, uuid }) => type === 'user' && uuid !== undefined).length >= 3, true);
  await one.runner.close();
  assert.deepEqual([pids(one), identify(pid!), one.warnings], [[], null, []]);
});

test('files that no turn can change are kept when they are given, and not again after each turn', limit, async (t) => {
  const one = await startRunner(t, { steps: [read('given'), { text: 'answer' }] }, { setting });
  if (!one.runner.jailed) return t.diagnostic('without walls every process can write');
  const next = conversation({ tools: ['Read'], access: 'ro' });
  await completed(one, next({ files: [{ path: 'given', content: 'canary' }] }));
  const kept = await keptVersion(one);
  for (let turn = 2; turn <= 3; turn += 1) {
    one.simulator.play({ steps: [read('given'), { text: 'answer' }] });
    await completed(one, next());
    assert.equal(await keptVersion(one), kept);
  }
  assert.deepEqual(await readdir(kept), ['given']);
  await one.runner.free('acme', next().sdkSession);
  one.simulator.play({ steps: [read('given'), { text: 'answer' }] });
  await completed(one, next());
  assert.match(JSON.stringify(one.simulator.requests.at(-1)?.body?.messages.at(-1)), /canary/);
});

test('the model is sent the same by a process that stayed as by one that is resumed', limit, async (t) => {
  const steps = [{ text: 'I look.', ...read('given') }, { text: 'answer' }];
  const sent: string[][][] = [];
  for (const stay of [true, false]) {
    const one = await startRunner(t, { steps }, { setting });
    // Where there is a sandbox for Bash, a process that is resumed tells its paths anew.
    const next = conversation({ tools: ['Read', 'Write', 'Edit'] });
    await completed(one, next({ stay, files: [{ path: 'given', content: 'canary' }] }));
    await completed(one, next({ stay }));
    await completed(one, next({ stay }));
    sent.push(one.simulator.requests.map(({ body }) => partsOf(body)));
  }
  const [stayed = [], resumed = []] = sent;
  assert.deepEqual([stayed.length, resumed.length], [6, 6]);
  for (const [index, parts] of stayed.entries()) {
    const at = parts.findIndex((part, place) => part !== resumed[index]?.[place]);
    assert.deepEqual([at, parts.length], [-1, resumed[index]?.length], `call ${index}: ${parts[at]?.slice(0, 300)}`);
  }
});

test('a process stays only for the next turn of the same conversation, as it was begun', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting });
  const cases: [string, (asked: RunOrder) => Partial<RunOrder>][] = [
    ['another turn was run elsewhere', ({ ref }) => ({ ref: { ...ref, epoch: ref.epoch + 1 } })],
    ['another profile', ({ profile }) => ({ profile: { ...profile, systemPrompt: 'Be brief.' } })],
    ['another session', () => ({ sdkSession: newUuid() })],
    ['a new beginning', () => ({ sdkSession: newUuid(), resume: false })],
  ];
  for (const [what, changes] of cases) {
    const next = conversation();
    await completed(one, next());
    const [pid] = pids(one);
    const asked = next();
    await completed(one, { ...asked, ...changes(asked) });
    assert.equal(pids(one).includes(pid!), what === 'another session' || what === 'a new beginning', what);
    await one.runner.free('acme', asked.sdkSession);
  }
  const tenants = conversation();
  const first = tenants();
  await completed(one, first);
  const [before] = pids(one).slice(-1);
  const second = tenants();
  await completed(one, {
    ...second,
    ref: { ...second.ref, tenant: 'other' },
    profile: { ...second.profile, tenant: 'other' },
  });
  assert.ok(pids(one).includes(before!) && pids(one).at(-1) !== before);
});

test('a process stays not after a command, a failure, a stop, a limit, or when it is not to', limit, async (t) => {
  const one = await startRunner(t, { steps: [] }, { setting });
  const command = { tools: [{ name: 'Bash', input: { command: 'sleep 300 & echo done' } }] };
  const batch = Object.assign(new TestHost(), { batchEnded: async () => 'stop' });
  const lost = Object.assign(new TestHost(), { ended: () => Promise.reject(new Error('boom')) });
  const cases = [
    { script: { steps: [command, { text: 'done' }] }, reason: 'end_turn' },
    { script: { steps: [{ fault: { kind: 'status', status: 400 } as const }] }, reason: 'error' },
    { script: () => ({ text: 'No.', stop_reason: 'refusal' }), reason: 'refusal' },
    { script: { steps: [write('a', 'b'), { text: 'never' }] }, host: batch, reason: 'stopped' },
    { script: { steps: [{ text: 'done' }] }, host: lost, reason: 'error' },
    { script: { steps: [{ text: 'done' }] }, stay: false, reason: 'end_turn' },
  ];
  for (const { script, reason, host = new TestHost(), stay = true } of cases) {
    one.simulator.play(script);
    const end = await one.runner.run(conversation()({ stay }), host, never);
    assert.deepEqual([end.reason, pids(one)], [reason, []]);
  }
  const stop = new AbortController();
  one.simulator.play({ steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  const host = new TestHost();
  const run = one.runner.run(conversation()(), host, stop.signal);
  await until(() => host.deltas.length > 3);
  stop.abort();
  assert.deepEqual([(await run).reason, pids(one)], ['interrupted', []]);
});

test('a turn that is stopped in a process that stayed ends it, and the next one goes on', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'first' }] }, { setting });
  const next = conversation();
  await completed(one, next());
  const stop = new AbortController();
  one.simulator.play({ steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  const host = new TestHost();
  const run = one.runner.run(next(), host, stop.signal);
  await until(() => host.deltas.length > 3);
  stop.abort();
  assert.deepEqual([(await run).reason, pids(one)], ['interrupted', []]);
  one.simulator.play({ steps: [{ text: 'third' }] });
  assert.equal((await completed(one, next())).text, 'third');
});

test('who needs a place gets that of the process that has waited longest', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting, maxProcesses: 2, maxWaiting: 0 });
  const [first, second, third] = [conversation(), conversation(), conversation()];
  let most = 0;
  const watching = setInterval(() => (most = Math.max(most, pids(one).length)), 2);
  t.after(() => clearInterval(watching));
  await completed(one, first());
  await completed(one, second());
  const [pidOfFirst, pidOfSecond] = pids(one);
  await completed(one, first());
  assert.deepEqual(pids(one), [pidOfFirst, pidOfSecond]);
  await completed(one, third());
  assert.equal(pids(one).length, 2);
  assert.ok(pids(one).includes(pidOfFirst!), 'the first was used after the second');
  await Promise.all([completed(one, second()), completed(one, conversation()({ stay: false }))]);
  assert.deepEqual([pids(one).length, most], [1, 2]);
});

test('a process that dies while it waits is dropped, and the turn begins in another one', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting });
  const next = conversation();
  await completed(one, next());
  const [pid] = pids(one);
  process.kill(pid!, 'SIGKILL');
  await until(() => pids(one).length === 0);
  await completed(one, next());
  // Nobody could have noticed before the turn is there.
  killJailed(one);
  const host = await completed(one, next());
  assert.deepEqual([host.types, host.text, pids(one).length], [['text'], 'answer', 1]);
  const messages = JSON.stringify(one.simulator.requests.at(-1)?.body?.messages);
  for (const text of ['prompt 1', 'prompt 2', 'prompt 3']) assert.equal(messages.split(`"${text}`).length, 2, text);
  assert.deepEqual(one.warnings, []);
});

test('a process that dies in a turn that had begun is a crash', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting });
  const next = conversation();
  await completed(one, next());
  one.simulator.play({ steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  const host = new TestHost();
  const run = one.runner.run(next(), host, never);
  await until(() => host.deltas.length > 3);
  process.kill(pids(one)[0]!, 'SIGKILL');
  const end = await run;
  assert.deepEqual([end.reason, end.failure?.code, pids(one)], ['error', 'agent_crashed', []]);
  assert.equal(one.simulator.requests.length, 2, 'nothing is tried again');
});

test('a conversation can be freed and forgotten', limit, async (t) => {
  const one = await startRunner(t, { steps: [write('a.txt', 'x'), { text: 'answer' }] }, { setting });
  for (const way of ['free', 'forget'] as const) {
    const next = conversation();
    const asked = next();
    await completed(one, asked);
    await one.runner[way]('acme', newUuid());
    assert.equal(pids(one).length, 1);
    await one.runner[way]('acme', asked.sdkSession);
    assert.deepEqual([pids(one), (await readdir(one.keptDir)).length], [[], way === 'free' ? 1 : 0]);
    await one.runner.forget('acme', asked.sdkSession);
  }
});

test('a fork goes on with the past and the files, and the original keeps its own', limit, async (t) => {
  const one = await startRunner(t, { steps: [write('a.txt', 'canary-file'), { text: 'answer' }] }, { setting });
  const next = conversation({ tools: ['Read', 'Write'] });
  const asked = next();
  await completed(one, asked);
  const session = newUuid();
  await one.runner.fork({ tenant: 'acme', session: asked.sdkSession }, { tenant: 'acme', session });
  const entries = JSON.stringify(one.transcripts.kept.get(`acme/${session}`));
  assert.ok(entries.includes(session) && !entries.includes(asked.sdkSession));
  one.simulator.play({ steps: [read('a.txt'), write('b.txt', 'b'), { text: 'forked' }] });
  const forked = next({ sdkSession: session, prompt: 'prompt of the fork' });
  assert.equal((await completed(one, forked)).text, 'forked');
  const messages = JSON.stringify(one.simulator.requests.at(-1)?.body?.messages);
  for (const text of ['prompt 1', 'prompt of the fork', 'canary-file']) assert.ok(messages.includes(text), text);
  const listed = async (of: string) => {
    const { files } = await one.runner.files.list({ tenant: 'acme', session: of, projectPath: null }, 10);
    return files.map(({ path }) => path);
  };
  assert.deepEqual([await listed(session), await listed(asked.sdkSession)], [['a.txt', 'b.txt'], ['a.txt']]);
  one.simulator.play({ steps: [{ text: 'original' }] });
  await completed(one, { ...next(), sdkSession: asked.sdkSession });
  assert.doesNotMatch(JSON.stringify(one.simulator.requests.at(-1)?.body?.messages), /prompt of the fork/);
});
