import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { RunLostError, type RunEnd } from '../engine/ports.ts';
import { identify } from './registry.ts';
import { AskingHost, never, order, startRunner, TestHost, until } from './runner-support.ts';

const limit = { timeout: 60_000 };
const bash = (command: string) => ({ tools: [{ name: 'Bash', input: { command } }] });
const codeOf = (end: RunEnd) => end.failure?.code;

test('an abort keeps the text so far and leaves no process', limit, async (t) => {
  const { runner, jails } = await startRunner(t, { steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  const host = new TestHost();
  const stop = new AbortController();
  const run = runner.run(order(), host, stop.signal);
  await until(() => host.deltas.length > 3);
  stop.abort();
  const end = await run;
  assert.deepEqual([end.reason, end.failure], ['interrupted', null]);
  assert.deepEqual([host.types, host.text], [['text'], host.deltas.join('')]);
  assert.deepEqual([host.lookedAtEnd, jails.live()], [1, []]);
});

test('an abort ends a running command with all its children', limit, async (t) => {
  const { runner, jails, project, simulator } = await startRunner(t, {
    steps: [bash('sleep 300 & echo $! > pid; wait'), { text: 'never' }],
  });
  const host = new TestHost();
  const stop = new AbortController();
  const run = runner.run(order({ profile: { projectPath: project } }), host, stop.signal);
  await until(() => existsSync(join(project, 'pid')));
  const pid = Number(await readFile(join(project, 'pid'), 'utf8'));
  stop.abort();
  const end = await run;
  assert.equal(end.reason, 'interrupted');
  assert.deepEqual([host.types, simulator.requests.length], [['allowed', 'tool_end'], 1]);
  assert.deepEqual(jails.live(), []);
  assert.equal(identify(pid), null);
});

test('an abort at any moment leaves nothing', limit, async (t) => {
  const { runner, jails, simulator } = await startRunner(t, { steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  for (const ms of [0, 5, 30, 100, 200, 300, 400, 500]) {
    const stop = new AbortController();
    const host = new TestHost();
    const run = runner.run(order({ files: [{ path: 'a', content: 'b' }] }), host, stop.signal);
    setTimeout(() => stop.abort(), ms);
    const end = await run;
    assert.equal(end.reason, 'interrupted', `after ${ms} ms`);
    assert.equal(host.text, host.deltas.join(''));
    assert.deepEqual(jails.live(), []);
  }
  await until(() => simulator.requests.every(({ outcome }) => outcome === 'client_left'));
});

test('a decision that is being committed when the run is stopped is waited for, and nothing runs', limit, async (t) => {
  const { runner, project } = await startRunner(t, { steps: [bash('touch ran'), { text: 'never' }] });
  const host = new TestHost();
  const stop = new AbortController();
  let committed = false;
  host.toolCall = async () => {
    stop.abort();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    committed = true;
    return { behavior: 'allow' };
  };
  const end = await runner.run(order({ profile: { projectPath: project } }), host, stop.signal);
  assert.deepEqual([end.reason, committed, existsSync(join(project, 'ran'))], ['interrupted', true, false]);
});

test('a process that does not react is ended all the same', limit, async (t) => {
  const { runner, jails } = await startRunner(t, { steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  const host = new TestHost();
  const stop = new AbortController();
  const run = runner.run(order(), host, stop.signal);
  await until(() => host.deltas.length > 3);
  const [live] = jails.live();
  assert.ok(live !== undefined);
  process.kill(live.pid, 'SIGSTOP');
  stop.abort();
  assert.equal((await run).reason, 'interrupted');
  assert.deepEqual([host.types, host.text], [['text'], host.deltas.join('')]);
  assert.equal(identify(live.pid), null);
});

test('a process that is killed is a crash, and what it said stays', limit, async (t) => {
  const { runner, jails } = await startRunner(t, { steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  const host = new TestHost();
  const run = runner.run(order(), host, never);
  await until(() => host.deltas.length > 3);
  for (const { pid } of jails.live()) process.kill(pid, 'SIGKILL');
  const end = await run;
  assert.deepEqual([end.reason, codeOf(end)], ['error', 'agent_crashed']);
  assert.deepEqual([host.types, host.text], [['text'], host.deltas.join('')]);
  assert.deepEqual([host.lookedAtEnd, jails.live()], [0, []]);
  assert.equal((await runner.run(order(), new TestHost(), AbortSignal.timeout(1500))).reason, 'interrupted');
});

test('closing ends what runs and what waits, and takes nothing more', limit, async (t) => {
  const { runner, jails } = await startRunner(
    t,
    { steps: [{ text: 'word '.repeat(2000), rate: 50 }] },
    { maxProcesses: 1 },
  );
  const host = new TestHost();
  const runs = [runner.run(order(), host, never), runner.run(order(), new TestHost(), never)];
  await until(() => host.deltas.length > 3);
  await runner.close();
  assert.deepEqual(jails.live(), []);
  assert.deepEqual(
    (await Promise.all(runs)).map(({ reason }) => reason),
    ['interrupted', 'interrupted'],
  );
  await assert.rejects(runner.run(order(), new TestHost(), never), { code: 'not_ready' });
});

test('a run that is lost is dead at once, and nothing is stored of how it ended', limit, async (t) => {
  const { runner, jails, transcripts } = await startRunner(t, { steps: [bash('touch ran'), { text: 'never' }] });
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<never>();
  const host = new AskingHost(() => {
    asked.resolve();
    return answer.promise;
  });
  const stop = new AbortController();
  const profile = { permissionMode: 'askForEdits', tools: ['Bash'] } as const;
  const turn = order({ profile, keepFiles: true });
  const run = runner.run(turn, host, stop.signal);
  await asked.promise;
  const stored = () => JSON.stringify([...transcripts.kept]);
  await until(() => stored().includes('touch ran'));
  const before = stored();
  stop.abort(new RunLostError());
  answer.reject(new Error('the human is not asked here any more'));
  await run;
  assert.deepEqual([stored(), jails.live()], [before, []]);
  const state = await runner.transcriptState('acme', turn.sdkSession, turn.messageUuid);
  assert.deepEqual([state.open.length, state.closed.size], [1, 0]);
});
