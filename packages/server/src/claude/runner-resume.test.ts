import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { MessagesRequest } from '@sallyport/simulator';
import { leftOut } from '../../../../test/support/needs.ts';
import { newUuid } from '../engine/ids.ts';
import type { Profile, RunOrder } from '../engine/ports.ts';
import { keptVersion } from './kept-support.ts';
import { never, order, startRunner, TestHost, until, type TestRunner } from './runner-support.ts';

const limit = { timeout: 60_000 };
const jailLacks = leftOut('runs in a jail', ['bwrap', 'socat']);
const bash = (command: string) => ({ tools: [{ name: 'Bash', input: { command } }] });

/** What others have left in the system's temporary directory. */
const before = new Set(await readdir(tmpdir()));

/** The orders of one conversation; the first begins it. */
function conversation(profile: Partial<Profile> = {}) {
  const first = order({ profile, keepFiles: true });
  const next = (changes: Partial<RunOrder> = {}): RunOrder => {
    const turn = { ...first.ref, turn: `turn-${newUuid()}` };
    return { ...first, ref: turn, messageUuid: newUuid(), resume: true, prompt: 'second prompt', ...changes };
  };
  return { first: { ...first, prompt: 'first prompt' }, next };
}

/** The texts of a request's messages by role, without what Claude Code itself puts in. */
function said(body: MessagesRequest | null | undefined): string[] {
  return (body?.messages ?? []).flatMap(({ role, content }) => {
    const blocks = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
    return blocks.flatMap(({ type, text }) => {
      if (role === 'system' || text?.startsWith('<system-reminder>')) return [];
      return [`${role}: ${type === 'text' ? text?.trim() : type}`];
    });
  });
}

const lastSaid = ({ simulator }: TestRunner) => said(simulator.requests.at(-1)?.body);

/** Nothing of a process may be left, neither ours nor what the SDK makes to resume. */
async function assertNothingLeft({ jails, runDir, warnings }: TestRunner): Promise<void> {
  assert.deepEqual([jails.live(), await readdir(join(runDir, 'jails')), warnings], [[], [], []]);
  const left = (await readdir(tmpdir())).filter((name) => name.startsWith('claude-resume-') && !before.has(name));
  assert.deepEqual(left, []);
}

/** Runs the second turn on another server than the first, or on the same one. */
async function twoTurns(t: TestContext, elsewhere: boolean) {
  const one = await startRunner(
    t,
    { steps: [{ text: 'I look. ', ...bash('echo canary') }, { text: 'first answer' }] },
    { setting: jailLacks ? 'none' : 'bwrap' },
  );
  const { first, next } = conversation();
  assert.equal((await one.runner.run(first, new TestHost(), never)).reason, 'end_turn');
  const script = { steps: [{ text: 'second answer' }] };
  const setting = jailLacks ? 'none' : 'bwrap';
  const two = elsewhere ? await startRunner(t, script, { setting, after: one }) : one;
  one.simulator.play(script);
  const host = new TestHost();
  const end = await two.runner.run(next(), host, never);
  assert.deepEqual([end.reason, host.text], ['end_turn', 'second answer']);
  await assertNothingLeft(one);
  await assertNothingLeft(two);
  return one.simulator.requests.at(-1)?.body;
}

test('the second turn sends the whole first one once, on this server as on the next', limit, async (t) => {
  const body = await twoTurns(t, true);
  assert.deepEqual(said(body), [
    'user: first prompt',
    'assistant: I look.',
    'assistant: tool_use',
    'user: tool_result',
    'assistant: first answer',
    'user: second prompt',
  ]);
  assert.equal(JSON.stringify(body?.messages).match(/canary\\n|canary"/g)?.length, 2, 'the call and its result');
  const plain = (value: unknown) =>
    JSON.stringify(value)
      .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}|toolu_\w+/g, 'id')
      .replaceAll(/\/tmp\/spr-\w+\/run\/jails\/[\w-]+/g, 'place')
      .replaceAll(/(claude|daemon)-\d+/g, 'uid')
      .split('\\n');
  assert.deepEqual(plain({ ...body, metadata: null }), plain({ ...(await twoTurns(t, false)), metadata: null }));
});

test('a turn goes on after one that failed, was stopped in a tool, or was killed', limit, async (t) => {
  for (const way of ['failed', 'stopped', 'killed'] as const) {
    const one = await startRunner(t, {
      steps:
        way === 'failed' ? [{ fault: { kind: 'status', status: 400 } }] : [{ text: 'I go.', ...bash('sleep 300') }],
    });
    const { first, next } = conversation();
    const host = new TestHost();
    const stop = new AbortController();
    const run = one.runner.run(first, host, stop.signal);
    // Claude Code gathers what it writes for some 50 ms; what is killed before that is not in the transcript.
    const called = () => one.transcripts.kept.get(`acme/${first.sdkSession}`)?.some(({ type }) => type === 'assistant');
    if (way !== 'failed') await until(() => host.types.includes('allowed') && called() === true);
    if (way === 'stopped') stop.abort();
    if (way === 'killed') for (const { pid } of one.jails.live()) process.kill(pid, 'SIGKILL');
    assert.notEqual((await run).reason, 'end_turn');
    one.simulator.play({ steps: [{ text: 'second answer' }] });
    assert.equal((await one.runner.run(next(), new TestHost(), never)).reason, 'end_turn', way);
    const texts = lastSaid(one);
    for (const text of ['user: first prompt', 'user: second prompt']) {
      assert.equal(texts.filter((each) => each === text).length, 1, `${way}: ${texts.join('; ')}`);
    }
    const wentOn = texts.includes('assistant: I go.') && texts.includes('user: tool_result');
    assert.equal(wentOn, way !== 'failed', `${way}: ${texts.join('; ')}`);
    assert.equal((await one.runner.run(next({ prompt: 'third' }), new TestHost(), never)).reason, 'end_turn', way);
    assert.deepEqual(lastSaid(one).slice(-3), ['user: second prompt', 'assistant: second answer', 'user: third']);
  }
});

test('a turn that was stopped at any moment does not keep the next one from running', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
  for (const ms of [0, 150, 300, 400, 500]) {
    const { first, next } = conversation();
    const stop = new AbortController();
    setTimeout(() => stop.abort(), ms);
    one.simulator.play({ steps: [{ text: 'word '.repeat(2000), rate: 50 }] });
    assert.equal((await one.runner.run(first, new TestHost(), stop.signal)).reason, 'interrupted');
    one.simulator.play({ steps: [{ text: 'second answer' }] });
    assert.equal((await one.runner.run(next(), new TestHost(), never)).reason, 'end_turn', `after ${ms} ms`);
    assert.equal(lastSaid(one).filter((text) => text === 'user: second prompt').length, 1);
  }
  await assertNothingLeft(one);
});

test('a transcript that ends before its first message is begun again', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'second answer' }] });
  const { next } = conversation();
  const asked = next();
  one.transcripts.kept.set(`acme/${asked.sdkSession}`, [{ type: 'queue-operation', operation: 'enqueue' }]);
  assert.equal((await one.runner.run(asked, new TestHost(), never)).reason, 'end_turn');
  assert.equal((await one.runner.run(next(), new TestHost(), never)).reason, 'end_turn');
  assert.deepEqual(lastSaid(one), ['user: second prompt', 'assistant: second answer', 'user: second prompt']);
});

test('files of a slot are there in the next turn, changed and deleted as they were left', limit, async (t) => {
  const setting = jailLacks ? 'none' : 'bwrap';
  const one = await startRunner(
    t,
    { steps: [bash('cat given > copied; mkdir -p d; echo one > d/edited; echo x > deleted'), { text: 'done' }] },
    { setting },
  );
  const { first, next } = conversation({ tools: ['Read', 'Edit', 'Bash'] });
  await one.runner.run({ ...first, files: [{ path: 'given', content: 'canary-given' }] }, new TestHost(), never);
  const two = await startRunner(
    t,
    { steps: [bash('cat copied d/edited; rm deleted; echo two > d/edited; chmod 755 copied'), { text: 'done' }] },
    { setting, after: one },
  );
  await two.runner.run(next(), new TestHost(), never);
  assert.match(JSON.stringify(one.simulator.requests.at(-1)?.body?.messages), /canary-givenone/);
  const three = await startRunner(
    t,
    { steps: [bash('ls -R; cat d/edited; id -u'), { text: 'done' }] },
    { setting, after: one },
  );
  const host = new TestHost();
  host.ended = async (view) => {
    assert.equal(await view.readFile('d/edited'), 'two\n');
    assert.deepEqual([...((await view.stamps(10))?.keys() ?? [])].toSorted(), ['copied', 'd/edited', 'given']);
    host.lookedAtEnd += 1;
  };
  const end = await three.runner.run(next({ profile: { ...first.profile, access: 'ro' } }), host, never);
  assert.deepEqual([end.reason, host.lookedAtEnd], ['end_turn', 1]);
  for (const each of [one, two, three]) await assertNothingLeft(each);
  assert.equal((await readdir(one.keptDir)).length, 1);
  await three.runner.forget(first.ref.tenant, 'another');
  assert.equal((await readdir(one.keptDir)).length, 1);
  await three.runner.forget(first.ref.tenant, first.sdkSession);
  assert.deepEqual(await readdir(one.keptDir), []);
});

test(
  'files are kept after a turn that failed or was killed, and not at all where they are not to be',
  limit,
  async (t) => {
    const one = await startRunner(t, { steps: [bash('echo canary > kept; sleep 300')] });
    const { first, next } = conversation();
    const host = new TestHost();
    const run = one.runner.run({ ...first, files: [{ path: 'given', content: 'x' }] }, host, never);
    await until(() => host.types.includes('allowed'));
    assert.deepEqual(await readdir(await keptVersion(one)), ['given'], 'what is given is kept before anything runs');
    await until(async () => (await jailedFiles(one)).includes('kept'));
    for (const { pid } of one.jails.live()) process.kill(pid, 'SIGKILL');
    assert.equal((await run).failure?.code, 'agent_crashed');
    assert.equal(await readFile(join(await keptVersion(one), 'kept'), 'utf8'), 'canary\n');
    one.simulator.play({ steps: [bash('ls; touch more'), { text: 'done' }] });
    await one.runner.run(next({ keepFiles: false }), new TestHost(), never);
    assert.doesNotMatch(JSON.stringify(one.simulator.requests.at(-1)?.body?.messages.slice(-2)), /given/);
    assert.deepEqual(await readdir(await keptVersion(one)), ['given', 'kept']);
  },
);

/** The names in the slot of the only jail. */
async function jailedFiles({ runDir }: TestRunner): Promise<string[]> {
  const [id] = await readdir(join(runDir, 'jails'));
  return await readdir(join(runDir, 'jails', id!, 'slot'));
}

test('a conversation in a project goes on there and nothing of it is kept', limit, async (t) => {
  const one = await startRunner(t, { steps: [bash('echo canary > note'), { text: 'done' }] });
  const { first, next } = conversation({ projectPath: one.project });
  await one.runner.run(first, new TestHost(), never);
  const two = await startRunner(t, { steps: [bash('cat note'), { text: 'done' }] }, { after: one });
  assert.equal((await two.runner.run(next(), new TestHost(), never)).reason, 'end_turn');
  assert.deepEqual(lastSaid(two).slice(0, 4), [
    'user: first prompt',
    'assistant: tool_use',
    'user: tool_result',
    'assistant: done',
  ]);
  assert.deepEqual([await readdir(one.project), await readdir(one.keptDir).catch(() => [])], [['note'], []]);
});
