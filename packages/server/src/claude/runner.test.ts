import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ToolName } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import { StaleEpochError, type RunEnd } from '../engine/ports.ts';
import { never, order, startRunner, TestHost } from './runner-support.ts';

const limit = { timeout: 60_000 };
const bash = (command: string) => ({ tools: [{ name: 'Bash', input: { command } }] });
const codeOf = (end: RunEnd) => end.failure?.code;

test('a run tells texts and tools in order, keeps the transcript, and leaves nothing', limit, async (t) => {
  const { runner, jails, simulator, transcripts, calls, project } = await startRunner(t, {
    steps: [
      { thinking: 'I should look.', text: 'I look. ', tools: [{ name: 'Read', input: { file_path: 'note.txt' } }] },
      { text: 'It says canary.', chunk: 4 },
    ],
  });
  await writeFile(join(project, 'note.txt'), 'canary\n');
  const host = new TestHost();
  const seen: (string | null)[] = [];
  host.toolCall = async (call, view) => {
    host.events.push({ type: 'allowed', call });
    seen.push(view.root, view.hostRoot, await view.readFile('note.txt'), await view.readFile('none'));
    seen.push([...((await view.stamps(10))?.keys() ?? [])].join());
    return { behavior: 'allow' };
  };
  const asked = order({ profile: { projectPath: project } });
  const end = await runner.run(asked, host, never);
  assert.deepEqual(host.types, ['thinking', 'text', 'allowed', 'tool_end', 'text']);
  assert.equal(host.text, 'I look. It says canary.');
  assert.equal(host.deltas.join(''), 'I should look.I look. It says canary.');
  assert.deepEqual(seen, [project, project, 'canary\n', null, 'note.txt']);
  const [, text, allowed, toolEnd] = host.events;
  assert.ok(text?.type === 'text' && allowed?.type === 'allowed' && toolEnd?.type === 'tool_end');
  assert.deepEqual([allowed.call.name, allowed.call.messageId], ['Read', text.message_id]);
  assert.deepEqual([toolEnd.tool_use_id, toolEnd.ok], [allowed.call.id, true]);
  assert.deepEqual([end.reason, end.failure, end.structuredOutput], ['end_turn', null, null]);
  assert.deepEqual([end.model, end.calls.length, calls.length], ['sallyport-simulator', 2, 2]);
  assert.equal(host.lookedAtEnd, 1);
  const kept = transcripts.kept.get(`acme/${asked.sdkSession}`) ?? [];
  assert.ok(kept.some((entry) => entry['uuid'] === asked.messageUuid));
  assert.deepEqual(jails.live(), []);
  assert.equal(simulator.requests.length, 2);
  assert.deepEqual(runner.health(), { ok: true, detail: null });
});

test('a tool that is not allowed does not run', limit, async (t) => {
  const { runner, simulator, project } = await startRunner(t, { steps: [bash('touch ran'), { text: 'done' }] });
  const profile = { projectPath: project };
  const denying = new TestHost();
  denying.toolCall = async () => ({ behavior: 'deny', message: 'canary-reason' });
  const end = await runner.run(order({ profile }), denying, never);
  assert.deepEqual([end.reason, denying.types], ['end_turn', ['text']]);
  assert.match(JSON.stringify(simulator.requests.at(-1)?.body), /canary-reason/);

  const throwing = new TestHost();
  throwing.toolCall = () => Promise.reject(new SallyportError('storage_full'));
  assert.equal(codeOf(await runner.run(order({ profile }), throwing, never)), 'storage_full');

  const senseless = new TestHost();
  senseless.toolCall = (async () => ({ behavior: 'perhaps' })) as unknown as TestHost['toolCall'];
  assert.equal(codeOf(await runner.run(order({ profile }), senseless, never)), 'internal');

  const without = await runner.run(order({ profile: { ...profile, tools: ['Read'] } }), new TestHost(), never);
  assert.equal(without.reason, 'end_turn');
  assert.equal(existsSync(join(project, 'ran')), false);
});

test('an event that cannot be committed stops the run before its tool', limit, async (t) => {
  const { runner, project, jails } = await startRunner(t, {
    steps: [{ text: 'I go.', ...bash('touch ran') }, { text: 'never' }],
  });
  const host = new TestHost();
  const asked = order({ profile: { projectPath: project } });
  host.record = () => Promise.reject(new StaleEpochError(asked.ref));
  const end = await runner.run(asked, host, never);
  assert.deepEqual([end.reason, codeOf(end)], ['error', 'internal']);
  assert.ok(end.failure?.cause instanceof StaleEpochError);
  assert.equal(existsSync(join(project, 'ran')), false);
  assert.deepEqual(jails.live(), []);
});

test('what the upstream did is named by its code', limit, async (t) => {
  const { runner, simulator } = await startRunner(t, { steps: [] });
  const cases = [
    { fault: { kind: 'status', status: 400 }, code: 'upstream_rejected' },
    { fault: { kind: 'status', status: 400, message: 'prompt is too long' }, code: 'prompt_too_long' },
    { fault: { kind: 'status', status: 401 }, code: 'upstream_refused_credentials' },
    { fault: { kind: 'status', status: 404 }, code: 'upstream_model_not_found' },
    { fault: { kind: 'status', status: 429, retry_after: 3600 }, code: 'upstream_rate_limited', retryAfter: 3600 },
    { fault: { kind: 'status', status: 500 }, code: 'upstream_error' },
    { fault: { kind: 'status', status: 529 }, code: 'upstream_overloaded', retryAfter: 10 },
    { fault: { kind: 'refuse' }, code: 'upstream_error' },
  ] as const;
  for (const { fault, code, ...rest } of cases) {
    simulator.play({ steps: [{ fault }] });
    const host = new TestHost();
    const end = await runner.run(order(), host, never);
    assert.deepEqual([end.reason, codeOf(end)], ['error', code]);
    assert.equal(end.failure?.retryAfter, 'retryAfter' in rest ? rest.retryAfter : undefined);
    assert.deepEqual([host.text, host.deltas], ['', []], 'an error in words is no text');
  }
});

test('a retry is told, a cut text is withdrawn and told again', limit, async (t) => {
  const { runner, simulator } = await startRunner(t, {
    steps: [{ text: 'Hello.', fault: { kind: 'status', status: 529 }, fault_times: 1 }],
  });
  const retried = new TestHost();
  assert.equal((await runner.run(order(), retried, never)).reason, 'end_turn');
  assert.deepEqual([retried.types, retried.text], [['retry', 'text'], 'Hello.']);
  const text = 'Hello there, how are you?';
  simulator.play({ steps: [{ text, chunk: 4, rate: 40, fault: { kind: 'cut', after_chars: 12 }, fault_times: 1 }] });
  const cut = new TestHost();
  assert.equal((await runner.run(order(), cut, never)).reason, 'end_turn');
  assert.ok(cut.types.includes('retry'));
  assert.equal(cut.text, text);
  // A socket that is cut can lose what was written just before; what has come is withdrawn.
  assert.equal(cut.types.includes('restart'), cut.deltas.join('') !== text);
});

test(
  'a refusal, the token limit, a stop after a batch and a spent budget end a run in their own way',
  limit,
  async (t) => {
    const model = 'claude-sonnet-4-5';
    const { runner, simulator } = await startRunner(t, () => ({ text: 'No.', stop_reason: 'refusal' }), { model });
    const profile = { model };
    assert.equal((await runner.run(order({ profile }), new TestHost(), never)).reason, 'refusal');

    simulator.play(() => ({ text: 'On and', stop_reason: 'max_tokens' }));
    const long = await runner.run(order({ profile }), new TestHost(), never);
    assert.deepEqual([long.reason, codeOf(long)], ['error', null]);

    simulator.play({ steps: [bash('true'), bash('true'), { text: 'done' }] });
    const host = new TestHost();
    let batches = 0;
    host.batchEnded = async (turn) => {
      assert.equal(turn.calls.length, ++batches);
      return batches === 2 ? 'stop' : 'continue';
    };
    const stopped = await runner.run(order({ profile }), host, never);
    assert.deepEqual([stopped.reason, stopped.calls.length, batches], ['stopped', 2, 2]);

    simulator.play({ steps: [{ ...bash('true'), usage: { output_tokens: 1_000_000 } }, { text: 'never' }] });
    const broke = await runner.run(order({ budgetUsd: 1, profile }), new TestHost(), never);
    assert.deepEqual([broke.reason, broke.failure, broke.calls.length], ['max_budget', null, 1]);
  },
);

test('a structured answer is handed over, and its absence is a failed run', limit, async (t) => {
  const { runner, simulator } = await startRunner(t, { steps: [{ structured: { a: 1 } }] });
  const outputSchema = { type: 'object', properties: { a: { type: 'number' } }, required: ['a'] };
  const profile = { outputSchema, tools: [], permissionMode: 'strict' as const };
  const host = new TestHost();
  host.batchEnded = () => assert.fail('there is no next model call');
  const end = await runner.run(order({ profile }), host, never);
  assert.deepEqual([end.reason, end.structuredOutput, host.types], ['end_turn', { a: 1 }, []]);
  simulator.play({ steps: [{ structured: { a: 'misfit' } }, { structured: { a: 1 } }] });
  const limited = new TestHost();
  limited.batchEnded = async () => 'stop';
  assert.equal((await runner.run(order({ profile }), limited, never)).reason, 'stopped');
  simulator.play(() => ({ text: 'words' }));
  const missing = await runner.run(order({ profile }), new TestHost(), never);
  assert.deepEqual([missing.reason, codeOf(missing), missing.structuredOutput], ['error', null, null]);
});

test('files are there before the prompt, and CLAUDE.md is given as data when it is wanted', limit, async (t) => {
  const { runner, simulator, jails } = await startRunner(t, {
    steps: [bash('cat src/a.txt'), { text: 'done' }],
  });
  const files = [
    { path: 'src/a.txt', content: 'canary-file' },
    { path: 'CLAUDE.md', content: `canary-instructions ${'x'.repeat(50_000)}` },
  ];
  const body = () => JSON.stringify(simulator.requests.at(-1)?.body?.messages);
  await runner.run(order({ files }), new TestHost(), never);
  assert.match(body(), /canary-file/);
  assert.doesNotMatch(body(), /canary-instructions/);
  const asked = order({ files, instructions: true, prompt: '/model @CLAUDE.md' });
  await runner.run(asked, new TestHost(), never);
  const [block] = body().match(/The file CLAUDE\.md[^"]*/i) ?? [''];
  assert.ok(block.includes('canary-instructions') && block.includes(asked.messageUuid));
  assert.ok(block.length > 40_000 && block.length < 41_000);
  assert.match(body(), /"text":"\/model @CLAUDE\.md/);
  assert.deepEqual(jails.live(), []);
});

test('a transcript that cannot be stored fails the run, and repeated appends heal it', limit, async (t) => {
  const { runner, transcripts } = await startRunner(t, { steps: [{ text: 'done' }] });
  transcripts.failures = 2;
  const healed = order();
  assert.equal((await runner.run(healed, new TestHost(), never)).reason, 'end_turn');
  assert.ok(transcripts.kept.has(`acme/${healed.sdkSession}`));
  transcripts.failures = 3;
  const lost = order();
  const end = await runner.run(lost, new TestHost(), never);
  assert.deepEqual([end.reason, codeOf(end)], ['error', 'storage_full']);
  transcripts.failures = 0;
  assert.equal(transcripts.kept.has(`acme/${lost.sdkSession}`), false, 'nothing after a gap');
});

test('Claude Code that starts otherwise than it was told to is not trusted', limit, async (t) => {
  const { runner, jails } = await startRunner(t, { steps: [bash('true')] });
  const tools: ToolName[] = ['Bash', 'NoSuchTool' as ToolName];
  const host = new TestHost();
  const end = await runner.run(order({ profile: { tools } }), host, never);
  assert.deepEqual([end.reason, codeOf(end), host.types], ['error', 'internal', []]);
  assert.deepEqual(jails.live(), []);
});

test('what cannot be started is refused, and the health says so until it can', limit, async (t) => {
  const { runner, jails } = await startRunner(t, { steps: [] }, { claudeBinary: '/bin/false' });
  await assert.rejects(runner.run(order(), new TestHost(), never), { code: 'agent_crashed' });
  assert.equal(runner.health().ok, false);
  assert.deepEqual(jails.live(), []);
});

test('no more processes than allowed, the rest waits, and beyond that it is overloaded', limit, async (t) => {
  const { runner, jails } = await startRunner(
    t,
    { steps: [{ text: 'done', rate: 5 }] },
    { maxProcesses: 4, maxWaiting: 6 },
  );
  let most = 0;
  const watching = setInterval(() => (most = Math.max(most, jails.live().length)), 5);
  t.after(() => clearInterval(watching));
  const runs = Array.from({ length: 10 }, () => runner.run(order(), new TestHost(), never));
  const refused = await runner.run(order(), new TestHost(), never).catch((error: unknown) => error);
  assert.ok(refused instanceof SallyportError && refused.code === 'overloaded' && (refused.retryAfter ?? 0) >= 1);
  const ends = await Promise.all(runs);
  assert.deepEqual(new Set(ends.map(({ reason }) => reason)), new Set(['end_turn']));
  assert.ok(most >= 1 && most <= 4, `${most} processes`);
  assert.deepEqual(jails.live(), []);
});
