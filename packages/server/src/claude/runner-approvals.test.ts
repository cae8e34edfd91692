import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Simulator } from '@sallyport/simulator';
import { SallyportError } from '../engine/errors.ts';
import type { ApprovalVerdict, Profile, RunEnd } from '../engine/ports.ts';
import { AskingHost, never, order, startRunner, TestHost, until } from './runner-support.ts';

const limit = { timeout: 60_000 };
const codeOf = (end: RunEnd) => end.failure?.code;
const write = (file_path: string, content: string) => ({ name: 'Write', input: { file_path, content } });
const asking = (projectPath: string): Partial<Profile> => ({
  projectPath,
  permissionMode: 'askForEdits',
  tools: ['Read', 'Write', 'Bash', 'AskUserQuestion'],
});
/** What the model was sent last. */
const sent = ({ requests }: Simulator) => JSON.stringify(requests.at(-1)?.body?.messages);

test('a call that a human allows is made with the input the human allowed, once', limit, async (t) => {
  const { runner, simulator, project } = await startRunner(t, {
    steps: [{ text: 'I write.', tools: [write('a.txt', 'model')] }, { text: 'done' }],
  });
  const host = new AskingHost(({ input }) => ({ behavior: 'allow', input: { ...input, content: 'human' } }));
  const end = await runner.run(order({ profile: asking(project) }), host, never);
  assert.deepEqual([end.reason, host.types], ['end_turn', ['text', 'asked', 'tool_end', 'text']]);
  assert.equal(await readFile(join(project, 'a.txt'), 'utf8'), 'human');
  const [text, asked, toolEnd] = host.events;
  assert.ok(text?.type === 'text' && asked?.type === 'asked' && toolEnd?.type === 'tool_end');
  assert.deepEqual([asked.call.messageId, asked.call.id], [text.message_id, toolEnd.tool_use_id]);
  assert.deepEqual([toolEnd.ok, host.refused, simulator.requests.length], [true, [], 2]);
});

test('a call that a human denies is not made, and Claude is told why', limit, async (t) => {
  const { runner, simulator, project } = await startRunner(t, {
    steps: [{ tools: [write('a.txt', 'x')] }, { text: 'done' }],
  });
  const host = new AskingHost(() => ({ behavior: 'deny', message: 'canary-no' }));
  const end = await runner.run(order({ profile: asking(project) }), host, never);
  assert.deepEqual(
    [end.reason, host.types, existsSync(join(project, 'a.txt'))],
    ['end_turn', ['asked', 'text'], false],
  );
  assert.match(sent(simulator), /canary-no/);
});

test('what is no decision makes no call, tells Claude nothing and fails the run', limit, async (t) => {
  const { runner, simulator, project } = await startRunner(t, {
    steps: [{ tools: [write('a.txt', 'x')] }, { text: 'done' }],
  });
  const cases: [() => ApprovalVerdict | Promise<ApprovalVerdict>, string][] = [
    [() => Promise.reject(new SallyportError('storage_full', { cause: 'canary-error' })), 'storage_full'],
    [
      () => {
        throw new Error('canary-error');
      },
      'internal',
    ],
    [() => ({ behavior: 'perhaps' }) as unknown as ApprovalVerdict, 'internal'],
    [() => ({ behavior: 'allow' }) as unknown as ApprovalVerdict, 'internal'],
    [() => ({ behavior: 'allow', input: ['x'] }) as unknown as ApprovalVerdict, 'internal'],
    [() => null as unknown as ApprovalVerdict, 'internal'],
  ];
  for (const [decide, code] of cases) {
    const end = await runner.run(order({ profile: asking(project) }), new AskingHost(decide), never);
    assert.deepEqual([end.reason, codeOf(end)], ['error', code]);
  }
  assert.equal(existsSync(join(project, 'a.txt')), false);
  assert.doesNotMatch(JSON.stringify(simulator.requests), /canary-error/);
});

test('of two calls in one answer each is asked about, and only what is allowed is made', limit, async (t) => {
  const { runner, simulator, project } = await startRunner(t, {
    steps: [
      { tools: [write('a.txt', 'a'), write('b.txt', 'b'), write('c.txt', 'c')], parallel: true },
      { text: 'done' },
    ],
  });
  const host = new AskingHost(({ input }) =>
    String(input['file_path']).endsWith('b.txt') ? { behavior: 'deny', message: 'no' } : { behavior: 'allow', input },
  );
  const end = await runner.run(order({ profile: asking(project) }), host, never);
  assert.deepEqual([end.reason, host.asked.length, new Set(host.asked.map(({ id }) => id)).size], ['end_turn', 3, 3]);
  assert.deepEqual(await readdir(project), ['a.txt', 'c.txt']);
  assert.equal(sent(simulator).match(/"tool_result"/g)?.length, 3);
});

test('a question is answered by a human, in every mode', limit, async (t) => {
  const { runner, simulator, project } = await startRunner(t, { steps: [] });
  const option = (label: string) => ({ label, description: label });
  const question = {
    question: 'Which colour?',
    header: 'Colour',
    options: [option('Red'), option('Blue')],
    multiSelect: false,
  };
  for (const permissionMode of ['askForEdits', 'acceptEdits', 'strict'] as const) {
    simulator.play({
      steps: [{ tools: [{ name: 'AskUserQuestion', input: { questions: [question] } }] }, { text: 'ok' }],
    });
    const host = new AskingHost(({ input }) => ({
      behavior: 'allow',
      input: { ...input, answers: { 'Which colour?': 'canary-blue' } },
    }));
    const end = await runner.run(order({ profile: { ...asking(project), permissionMode } }), host, never);
    assert.deepEqual([end.reason, host.types], ['end_turn', ['asked', 'tool_end', 'text']], permissionMode);
    assert.match(sent(simulator), /canary-blue/);
  }
});

test('what only Claude Code would ask about is not run, and nobody is asked', limit, async (t) => {
  const { runner, project } = await startRunner(t, {
    steps: [{ tools: [write('.claude/settings.json', '{}')] }, { text: 'done' }],
  });
  const host = new TestHost();
  const profile = { projectPath: project, tools: ['Write' as const] };
  const end = await runner.run(order({ profile }), host, never);
  const [allowed] = host.events;
  assert.ok(allowed?.type === 'allowed');
  assert.deepEqual([end.reason, host.refused], ['end_turn', [allowed.call.id]]);
  assert.equal(existsSync(join(project, '.claude')), false);
});

test('a run that is stopped while a human is awaited ends at once, and nothing runs', limit, async (t) => {
  const { runner, jails, project, simulator } = await startRunner(t, {
    steps: [{ tools: [write('a.txt', 'x')] }, { text: 'never' }],
  });
  for (const way of ['abort', 'close'] as const) {
    const host = new AskingHost(() => new Promise(() => {}));
    const stop = new AbortController();
    const run = runner.run(order({ profile: asking(project) }), host, stop.signal);
    await until(() => host.asked.length === 1);
    const before = simulator.requests.length;
    if (way === 'abort') stop.abort();
    else await runner.close();
    const end = await run;
    assert.deepEqual([end.reason, end.failure, host.types], ['interrupted', null, ['asked']], way);
    assert.deepEqual([jails.live(), existsSync(join(project, 'a.txt'))], [[], false]);
    assert.equal(simulator.requests.length, before, 'the model is not asked again');
  }
});

test('a decision that comes after the stop makes no call', limit, async (t) => {
  const { runner, project } = await startRunner(t, { steps: [{ tools: [write('a.txt', 'x')] }, { text: 'never' }] });
  const decision = Promise.withResolvers<ApprovalVerdict>();
  const host = new AskingHost(() => decision.promise);
  const stop = new AbortController();
  const run = runner.run(order({ profile: asking(project) }), host, stop.signal);
  await until(() => host.asked.length === 1);
  stop.abort();
  decision.resolve({ behavior: 'allow', input: { file_path: 'a.txt', content: 'x' } });
  assert.equal((await run).reason, 'interrupted');
  assert.equal(existsSync(join(project, 'a.txt')), false);
});
