import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { SallyportError } from '../engine/errors.ts';
import { newUuid } from '../engine/ids.ts';
import type { ApprovalVerdict, Recovery, ToolVerdict } from '../engine/ports.ts';
import {
  assertQuiet,
  bash,
  blocksOf,
  files,
  freed,
  goOn,
  made,
  modelOf,
  onlyCall,
  setting,
  write,
} from './recovery-support.ts';
import { mended } from './recovery.ts';
import { keptVersion } from './kept-support.ts';
import {
  AskingHost,
  killJailed,
  never,
  order,
  startRunner,
  TestHost,
  until,
  type TestRunner,
} from './runner-support.ts';

const limit = { timeout: 120_000 };

test('a call that is allowed after its process was freed is made once, without asking the model', limit, async (t) => {
  const turn = await freed(t, [write('model')]);
  assert.deepEqual(await files(turn.one), {});
  const { two, host, end, sent } = await goOn(t, turn, made(turn.call));
  assert.deepEqual([end.reason, host.types, host.text], ['end_turn', ['asked', 'tool_end', 'text'], 'answer 2']);
  assert.deepEqual([host.asked[0]?.id, host.asked[0]?.messageId], [turn.call.id, turn.call.messageId]);
  assert.deepEqual(await files(two), { 'a.txt': 'model' });
  const { call, result } = onlyCall(sent);
  assert.deepEqual([call.id, result.is_error ?? false], [turn.call.id, false]);
  assert.equal(turn.one.simulator.requests.length, 2);
  const state = await two.runner.transcriptState('acme', turn.order.sdkSession, turn.order.messageUuid);
  assert.deepEqual([state.answered, state.open, [...state.closed]], [true, [], [turn.call.id]]);
});

test('a call that is denied after its process was freed is not made, and Claude is told why', limit, async (t) => {
  for (const way of ['asked', 'known'] as const) {
    const turn = await freed(t, [write('model')]);
    const known = { outcomes: [{ toolUseId: turn.call.id, text: 'canary-no', ok: false }], call: null };
    const denial: ApprovalVerdict = { behavior: 'deny', message: 'canary-no' };
    const { two, host, end, sent } = await goOn(t, turn, way === 'known' ? known : made(turn.call), denial);
    assert.deepEqual([end.reason, host.text], ['end_turn', 'answer 2']);
    assert.deepEqual(await files(two), {});
    const { result } = onlyCall(sent);
    assert.deepEqual([JSON.stringify(result.content).includes('canary-no'), result.is_error], [true, true]);
  }
});

test('an input that a human changed is what runs, whichever is quicker, our hooks or the call', limit, async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const turn = await freed(t, [write('model')]);
    const { two, end, sent } = await goOn(t, turn, made(turn.call, { ...turn.call.input, content: 'human' }));
    assert.deepEqual([end.reason, await files(two)], ['end_turn', { 'a.txt': 'human' }]);
    assert.equal(onlyCall(sent).result.is_error ?? false, false);
    assertQuiet(two);
    const stored = JSON.stringify(two.transcripts.kept.get(`acme/${turn.order.sdkSession}`));
    assert.match(stored, /"content":"model"/, 'what the model said stays in the stored transcript');
  }
});

test('a command that would run unasked runs once as well, as a human changed it', limit, async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const turn = await freed(t, [bash('ls')]);
    const asked = round % 2 === 0 ? 'echo ran >> log' : 'cat a.txt; pwd';
    const { two, host, end, sent } = await goOn(t, turn, made(turn.call, { command: asked }));
    assert.deepEqual([end.reason, host.types, host.asked.length], ['end_turn', ['asked', 'tool_end', 'text'], 1]);
    assert.deepEqual(await files(two), round % 2 === 0 ? { log: 'ran\n' } : {});
    const { call } = onlyCall(sent);
    assert.deepEqual(call.input, { command: asked });
  }
});

test('a question is answered after its process was freed', limit, async (t) => {
  const option = (label: string) => ({ label, description: label });
  const question = {
    question: 'Which?',
    header: 'Which',
    options: [option('Red'), option('Blue')],
    multiSelect: false,
  };
  const turn = await freed(t, [{ name: 'AskUserQuestion', input: { questions: [question] } }]);
  const { end, sent } = await goOn(
    t,
    turn,
    made(turn.call, { ...turn.call.input, answers: { 'Which?': 'canary-blue' } }),
  );
  assert.equal(end.reason, 'end_turn');
  const { result } = onlyCall(sent);
  assert.deepEqual([JSON.stringify(result.content).includes('canary-blue'), result.is_error ?? false], [true, false]);
});

test('of several calls in one answer those that ran are not run again, and each has one outcome', limit, async (t) => {
  const calls = [write('one', '1'), write('two', '2'), write('three', '3')];
  const turn = await freed(t, calls, (call, nth) =>
    nth === 1 ? { behavior: 'allow', input: call.input } : { behavior: 'free' },
  );
  const [second, third] = turn.open;
  assert.deepEqual([turn.open.length, second?.toolUseId], [2, turn.call.id]);
  await overwritten(turn.one, '1');
  const outcomes = [{ toolUseId: third!.toolUseId, text: 'canary-later', ok: false }];
  const { two, host, end, sent } = await goOn(t, turn, { ...made(turn.call), outcomes });
  assert.deepEqual([end.reason, host.asked.length], ['end_turn', 1]);
  assert.deepEqual(await files(two), { 1: 'not by Claude', 2: 'two' });
  const ids = (type: string, id: 'id' | 'tool_use_id') =>
    sent
      .filter((block) => block.type === type)
      .map((block) => block[id])
      .toSorted((a, b) => String(a).localeCompare(String(b)));
  assert.equal(ids('tool_use', 'id').length, 3);
  assert.deepEqual(ids('tool_result', 'tool_use_id'), ids('tool_use', 'id'));
  const told = sent.find(({ tool_use_id: id }) => id === third?.toolUseId);
  assert.match(JSON.stringify(told?.content), /canary-later/);
});

async function overwritten(runner: TestRunner, name: string): Promise<void> {
  await writeFile(join(await keptVersion(runner), name), 'not by Claude');
}

test('a read that was cut has the outcome that it is given', limit, async (t) => {
  const model = modelOf([{ name: 'Read', input: { file_path: 'given' } }]);
  const one = await startRunner(t, model, { setting });
  const asked = order({ keepFiles: true, files: [{ path: 'given', content: 'canary-given' }] });
  const host = new TestHost();
  const decision = Promise.withResolvers<ToolVerdict>();
  host.toolCall = () => decision.promise;
  const stored = () => one.transcripts.kept.get(`acme/${asked.sdkSession}`)?.some(({ type }) => type === 'assistant');
  const run = one.runner.run(asked, host, never);
  await until(() => stored() === true);
  killJailed(one);
  decision.resolve({ behavior: 'deny', message: 'too late' });
  assert.equal((await run).failure?.code, 'agent_crashed');
  const { open } = await one.runner.transcriptState('acme', asked.sdkSession, asked.messageUuid);
  const [read] = open;
  assert.deepEqual([open.length, read?.name], [1, 'Read']);
  const outcomes = [{ toolUseId: read!.toolUseId, text: 'canary-cut', ok: false }];
  const turn = { one, model, open, order: { ...asked, resume: true }, call: null as never };
  const { end, host: later, sent } = await goOn(t, turn, { outcomes, call: null });
  assert.deepEqual([end.reason, later.types], ['end_turn', ['text']]);
  assert.match(JSON.stringify(onlyCall(sent).result.content), /canary-cut/);
});

test('what goes on a second time still makes the call once, and the next turn finds one call', limit, async (t) => {
  for (const way of ['made', 'told'] as const) {
    const turn = await freed(t, [bash('echo ran >> log')]);
    const key = `acme/${turn.order.sdkSession}`;
    const { kept } = turn.one.transcripts;
    // As a server leaves it that is killed before its process has begun.
    kept.set(key, [...kept.get(key)!, ...mended(kept.get(key)!, made(turn.call), 0).added]);
    const told: Recovery = { outcomes: [{ toolUseId: turn.call.id, text: 'canary-told', ok: false }], call: null };
    const { two, end, sent } = await goOn(t, turn, way === 'made' ? made(turn.call) : told);
    assert.deepEqual([end.reason, await files(two)], ['end_turn', way === 'made' ? { log: 'ran\n' } : {}], way);
    onlyCall(sent);
    const next = { ...turn.order, messageUuid: newUuid(), prompt: 'second prompt' };
    assert.equal((await two.runner.run(next, new AskingHost(() => assert.fail('asked')), never)).reason, 'end_turn');
    onlyCall(blocksOf(turn.one));
    assert.deepEqual(await files(two), way === 'made' ? { log: 'ran\n' } : {}, way);
  }
});

test('a turn waits again, is stopped, or fails, before there is a process', limit, async (t) => {
  const turn = await freed(t, [write('model')]);
  const { end: again, two } = await goOn(t, turn, made(turn.call), { behavior: 'free' });
  assert.deepEqual([again.reason, again.calls], ['freed', []]);
  const asked = { ...turn.order, recovery: made(turn.call) };
  const stop = new AbortController();
  const waiting = new AskingHost(() => new Promise(() => {}));
  const run = two.runner.run(asked, waiting, stop.signal);
  await until(() => waiting.asked.length === 1);
  stop.abort();
  assert.equal((await run).reason, 'interrupted');
  const failing = new AskingHost(() => Promise.reject(new SallyportError('storage_full')));
  assert.equal((await two.runner.run(asked, failing, never)).failure?.code, 'storage_full');
  const unknown = { ...asked, recovery: made({ ...turn.call, id: 'toolu_unknown' }) };
  await assert.rejects(two.runner.run(unknown, waiting, never), { code: 'internal' });
  assert.deepEqual([await files(two), two.jails.live(), turn.one.simulator.requests.length], [{}, [], 1]);
  const { end } = await goOn(t, turn, made(turn.call));
  assert.deepEqual([end.reason, await files(two)], ['end_turn', { 'a.txt': 'model' }]);
});

test('a human sees the workspace as it is while there is no process', limit, async (t) => {
  const turn = await freed(t, [write('model')]);
  const two = await startRunner(t, turn.model, { setting, after: turn.one });
  const seen: unknown[] = [];
  const host = new AskingHost(async ({ input }, view) => {
    seen.push(await view.readFile('given'), await view.readFile(`${view.root}/given`), await view.readFile('none'));
    seen.push(await view.readFile('.').catch(() => 'refused'), await view.readFile('bytes').catch(() => 'refused'));
    seen.push([...((await view.stamps(10))?.keys() ?? [])].toSorted((a, b) => a.localeCompare(b)));
    return { behavior: 'allow', input };
  });
  const kept = await keptVersion(two);
  await writeFile(join(kept, 'given'), 'canary\n');
  await writeFile(join(kept, 'bytes'), Buffer.from([0xff, 0xfe, 0]));
  assert.equal((await two.runner.run({ ...turn.order, recovery: made(turn.call) }, host, never)).reason, 'end_turn');
  assert.deepEqual(seen, ['canary\n', 'canary\n', null, 'refused', 'refused', ['bytes', 'given']]);
});

test('Claude Code that does not go on with a turn is ended, and the end says so', limit, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'first answer' }] }, { setting });
  const asked = order();
  assert.equal((await one.runner.run(asked, new TestHost(), never)).reason, 'end_turn');
  const recovery = { outcomes: [], call: null };
  const end = await one.runner.run({ ...asked, resume: true, recovery }, new TestHost(), never);
  assert.deepEqual([end.reason, end.failure?.code], ['interrupted', null]);
  assert.match(end.failure?.detail ?? '', /did not take the turn up/);
  assert.deepEqual([one.jails.live(), one.simulator.requests.length], [[], 1]);
});
