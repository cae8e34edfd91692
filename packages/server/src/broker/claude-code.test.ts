import { query, type SDKMessage, type SDKResultMessage, type SDKUserMessage } from '@anthropic-ai/claude-agent-sdk';
import { startSimulator, type Brain, type Script } from '@sallyport/simulator';
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { BrokerGrant } from '../engine/ports.ts';
import { finalMarker } from './failures.ts';
import { grant, startBroker, upstreamAt } from './test-support.ts';

const within = { timeout: 60_000 };

interface RunOptions {
  readonly granted?: Partial<BrokerGrant>;
  readonly tools?: string[];
  /** Prompts of one process, each given after the end of the one before. */
  readonly prompts?: string[];
}

/** Real Claude Code that reaches the simulator through the broker. */
async function run(t: TestContext, script: Script | Brain, options: RunOptions = {}) {
  const simulator = await startSimulator({ script });
  t.after(() => simulator.close());
  const upstreams = [upstreamAt(simulator.url, { keys: [] })];
  const { broker, records, lines } = await startBroker(t, simulator.url, { upstreams });
  const pass = broker.issue();
  const granted = grant(options.granted);
  const prompts = [...(options.prompts ?? ['Hello'])];
  let ended = Promise.withResolvers<void>();
  const turn = pass.bind(granted);
  const home = await mkdtemp(join(tmpdir(), 'spc-'));
  t.after(() => rm(home, { recursive: true, force: true, maxRetries: 5 }));
  const cwd = join(home, 'work');
  await mkdir(cwd);
  async function* prompt(): AsyncGenerator<SDKUserMessage> {
    for (const content of prompts) {
      yield { type: 'user', message: { role: 'user', content }, parent_tool_use_id: null };
      await ended.promise;
      ended = Promise.withResolvers();
    }
  }
  const session = query({
    prompt: prompt(),
    options: {
      cwd,
      model: granted.model,
      tools: options.tools ?? [],
      settingSources: [],
      strictMcpConfig: true,
      permissionMode: 'dontAsk',
      env: {
        PATH: '/usr/bin:/bin',
        HOME: home,
        TMPDIR: home,
        CLAUDE_CONFIG_DIR: join(home, 'config'),
        ANTHROPIC_UNIX_SOCKET: broker.socketPath,
        ANTHROPIC_BASE_URL: 'http://localhost',
        ANTHROPIC_API_KEY: pass.token,
        CLAUDE_CODE_MAX_RETRIES: '1',
        CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: '1',
        CLAUDE_CODE_DISABLE_AUTO_MEMORY: '1',
        CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
        DISABLE_TELEMETRY: '1',
        DISABLE_AUTOUPDATER: '1',
      },
    },
  });
  const messages: SDKMessage[] = [];
  try {
    for await (const message of session) {
      messages.push(message);
      if (message.type === 'result') ended.resolve();
      if (messages.filter(({ type }) => type === 'result').length === prompts.length) break;
    }
  } finally {
    session.close();
  }
  await turn.settle();
  const result = messages.findLast((message) => message.type === 'result') as SDKResultMessage;
  return { simulator, broker, records, lines, turn, messages, result, token: pass.token };
}

const textOf = (result: SDKResultMessage): string => (result.subtype === 'success' ? result.result : '');

test('Claude Code gets its answer through the broker and its usage is recorded', within, async (t) => {
  const usage = { input_tokens: 11, output_tokens: 22, cache_read_input_tokens: 33, cache_creation_input_tokens: 44 };
  const done = await run(t, { steps: [{ text: 'Hello from the simulator.', usage }] });
  assert.equal(textOf(done.result), 'Hello from the simulator.');
  assert.equal(done.result.is_error, false);
  assert.deepEqual(
    done.records.map((call) => [call.status, call.model, call.usage, call.costUsd]),
    [
      [
        200,
        'sallyport-simulator',
        { input_tokens: 11, output_tokens: 22, cache_read_tokens: 33, cache_write_tokens: 44 },
        0,
      ],
    ],
  );
  assert.equal(done.turn.failure(), null);
  const seen = JSON.stringify(done.simulator.requests.map(({ headers, body }) => [headers, body]));
  assert.equal(seen.includes(done.token), false);
  assert.equal(done.lines.join('\n').includes(done.token), false);
});

for (const model of ['claude-opus-5-5', 'claude-haiku-4-5-20251001', 'sallyport-simulator', 'house-model']) {
  test(`Claude Code asks for ${model} under the very name it was given`, within, async (t) => {
    const done = await run(t, { steps: [{ text: 'Hi.' }] }, { granted: { model } });
    assert.equal(textOf(done.result), 'Hi.');
    assert.equal(done.simulator.requests[0]?.body?.model, model);
  });
}

for (const model of ['claude-sonnet-4-5', 'claude-opus-5-5', 'sallyport-simulator']) {
  for (const status of [400, 401] as const) {
    test(`Claude Code does not repeat a final failure of ${model} behind status ${status}`, within, async (t) => {
      const script = { steps: [{ fault: { kind: 'status' as const, status } }] };
      const done = await run(t, script, { granted: { model }, tools: ['Read'] });
      assert.equal(done.simulator.requests.length, 1);
      assert.equal(done.result.is_error, true);
      assert.ok(textOf(done.result).includes(finalMarker));
      assert.equal(done.turn.failure()?.code, status === 400 ? 'upstream_rejected' : 'upstream_refused_credentials');
      assert.equal(
        done.messages.some((message) => message.type === 'system' && message.subtype === 'api_retry'),
        false,
      );
    });
  }
}

test('Claude Code goes on with its next prompt after a final failure', within, async (t) => {
  let calls = 0;
  const brain: Brain = () => (++calls === 1 ? { fault: { kind: 'status', status: 403 } } : { text: 'Well again.' });
  const done = await run(t, brain, { prompts: ['Hello', 'Once more'] });
  assert.equal(textOf(done.result), 'Well again.');
  assert.equal(done.simulator.requests.length, 2);
  const [first, second] = done.simulator.requests.map(({ headers }) => headers['anthropic-beta']);
  assert.equal(second, first);
  assert.equal(done.turn.failure(), null);
});

test('Claude Code does not repeat what the broker has repeated to the end', within, async (t) => {
  const retries: number[] = [];
  const onRetry = (attempt: number) => void retries.push(attempt);
  const done = await run(t, { steps: [{ fault: { kind: 'status', status: 529 } }] }, { granted: { onRetry } });
  assert.equal(done.simulator.requests.length, 3);
  assert.deepEqual(retries, [1, 2]);
  assert.equal(done.turn.failure()?.code, 'upstream_overloaded');
});

test('Claude Code does not repeat a call that the budget refused', within, async (t) => {
  const done = await run(t, { steps: [{ text: 'Never said.' }] }, { granted: { budgetUsd: 0 } });
  assert.equal(done.simulator.requests.length, 0);
  assert.equal(done.turn.budgetReached(), true);
  assert.ok(textOf(done.result).includes(finalMarker));
});

test('Claude Code itself repeats a stream that was cut, and the turn ends well', within, async (t) => {
  const text = 'A text that is long enough to be cut in its middle.';
  const done = await run(t, { steps: [{ text, fault: { kind: 'cut', after_chars: 24 }, fault_times: 1 }] });
  assert.equal(textOf(done.result), text);
  assert.equal(done.simulator.requests.length, 2);
  assert.equal(done.turn.failure(), null);
  assert.equal(done.records.length, 2);
});

for (const kind of ['slow_bytes', 'unknown_events'] as const) {
  test(`Claude Code and the books are right with an upstream of ${kind}`, within, async (t) => {
    const usage = { input_tokens: 11, output_tokens: 22, cache_read_input_tokens: 33, cache_creation_input_tokens: 44 };
    const done = await run(t, { steps: [{ text: 'Fine all the same.', usage, fault: { kind } }] });
    assert.equal(textOf(done.result), 'Fine all the same.');
    assert.deepEqual(
      done.records.map((call) => Object.values(call.usage)),
      [[11, 22, 33, 44]],
    );
    assert.equal(done.turn.failure(), null);
  });
}

test('Claude Code in an asking mode is answered with one tool call at a time', within, async (t) => {
  const steps = [{ tools: [{ name: 'Glob', input: { pattern: '*' } }] }, { text: 'Done.' }];
  const done = await run(t, { steps }, { granted: { singleToolCalls: true }, tools: ['Glob'] });
  assert.equal(textOf(done.result), 'Done.');
  assert.equal(done.simulator.requests.length, 2);
  for (const { body } of done.simulator.requests) {
    assert.deepEqual(body?.tool_choice, { type: 'auto', disable_parallel_tool_use: true });
  }
});
