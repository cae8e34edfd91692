import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { leftOut } from '../support/needs.ts';
import { agentsOf, processesWith } from '../support/processes.ts';
import {
  answerOf,
  callsWith,
  inBatches,
  joined,
  rows,
  scripted,
  send,
  stream,
  turnState,
  until,
} from '../support/runs.ts';
import { query, startService, unshared, type TestService } from '../support/service.ts';

let service: TestService;
let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sp-prices-'));
  const prices = join(directory, 'prices.json');
  // One dollar for each token of input.
  await writeFile(
    prices,
    JSON.stringify({ 'sallyport-simulator': { input: 1_000_000, output: 0, cacheRead: 0, cacheWrite: 0 } }),
  );
  service = await startService({
    env: { ...unshared, SALLYPORT_PRICES: prices, SALLYPORT_MODELS: 'sallyport-simulator,unpriced-model' },
  });
});
after(async () => {
  await service.close();
  await rm(directory, { recursive: true });
});

const timeout = 300;
/** Slower than any timeout here. */
const endless: Step = { text: 'One word after the other. '.repeat(80), rate: 10 };
const list: Step = { tools: [{ name: 'Glob', input: { pattern: '*' } }] };
const dollar = { usage: { input_tokens: 1, output_tokens: 1 } };

async function assertNothingLeft(): Promise<void> {
  await until(() => service.sallyport.processes().length === 0);
  assert.deepEqual(await agentsOf(service), []);
}

/** The one process of Claude Code that there is. */
async function onlyAgent(): Promise<number> {
  await until(async () => (await agentsOf(service)).length === 1);
  const [agent] = await agentsOf(service);
  assert.ok(agent);
  assert.match(agent.command, /claude /u);
  return agent.pid;
}

function assertTimedOut({ status, body }: Awaited<ReturnType<typeof query>>, seconds: number, word: string): void {
  assert.equal(status, 200);
  assert.deepEqual([body['success'], body['stop_reason']], [false, 'timeout'], JSON.stringify(body));
  assert.match(body['error'], new RegExp(`\\b${seconds} seconds`, 'u'));
  const outcomes = callsWith(service, word).map(({ outcome }) => outcome);
  assert.deepEqual(outcomes, ['client_left']);
  assert.equal(turnState(service, word), 'interrupted');
}

const command = '(setsid sleep 86411 &) ; sleep 86412';
const commandLeftOut = leftOut('commands in a jail', ['bwrap', 'socat', 'setpriv', 'prlimit']);

describe('a run that meets its timeout ends with what there is', { concurrency: 4 }, () => {
  before(async () => {
    // Claude Code itself is what hangs here. It is the only one there is as yet.
    stopped = query(service, { prompt: scripted([endless], 'time-stopped-'), timeout: 20 });
    await until(() => callsWith(service, 'time-stopped-').length === 1);
    process.kill(await onlyAgent(), 'SIGSTOP');
  });
  let stopped: ReturnType<typeof query>;

  test('with Claude Code stopped', async () => {
    assertTimedOut(await stopped, 20, 'time-stopped-');
  });

  test('in a text', async () => {
    const ended = await query(service, { prompt: scripted([endless], 'time-text-'), timeout: 15 });
    assertTimedOut(ended, 15, 'time-text-');
    assert.ok(endless.text?.startsWith(answerOf(ended.body)));
    assert.notEqual(answerOf(ended.body), '');
    assert.ok(ended.body['usage'].output_tokens > 0);
  });

  test('before the first character', async () => {
    const step: Step = { text: 'Never.', fault: { kind: 'hang' } };
    const ended = await query(service, { prompt: scripted([step], 'time-hang-'), timeout: 10 });
    assertTimedOut(ended, 10, 'time-hang-');
    assert.equal(answerOf(ended.body), '');
  });

  test('in a command, with all that it started', { skip: commandLeftOut }, async () => {
    const steps = [{ text: 'Before.', tools: [{ name: 'Bash', input: { command } }] }, { text: 'Never.' }];
    const request = { permission_mode: 'acceptEdits', allowed_tools: ['Bash'], timeout: 15 };
    const run = query(service, { prompt: scripted(steps, 'time-bash-'), ...request });
    await until(
      async () => (await processesWith('sleep 86411')).length + (await processesWith('sleep 86412')).length > 1,
    );
    const { status, body } = await run;
    assert.deepEqual([status, body['stop_reason'], answerOf(body)], [200, 'timeout', 'Before.']);
    assert.deepEqual(body['tools_used'], ['Bash']);
    assert.deepEqual(await processesWith('sleep 8641'), []);
  });

  after(assertNothingLeft);
});

describe('max_turns is the number of model calls', { concurrency: 4 }, () => {
  for (const max_turns of [1, 2, 3]) {
    test(`${max_turns} for a run that would go on`, async () => {
      const word = `turns-${max_turns}-`;
      const { status, body } = await query(service, {
        prompt: scripted([list, list, list, list], word),
        max_turns,
        timeout,
      });
      assert.equal(status, 200);
      assert.deepEqual([body['success'], body['stop_reason']], [false, 'max_turns']);
      assert.match(body['error'], new RegExp(`\\b${max_turns} model call`, 'u'));
      assert.equal(callsWith(service, word).length, max_turns);
      assert.deepEqual(body['tools_used'], ['Glob']);
    });
  }

  test('a run that ends with its last call has ended well', async () => {
    const { body } = await query(service, {
      prompt: scripted([list, { text: 'Done.' }], 'turns-well-'),
      max_turns: 2,
      timeout,
    });
    assert.deepEqual([body['success'], body['stop_reason']], [true, 'end_turn']);
    assert.equal(callsWith(service, 'turns-well-').length, 2);
  });

  test('calls that Claude Code makes by itself count too', async () => {
    const cut: Step = { text: 'So much', stop_reason: 'max_tokens' };
    const { body } = await query(service, {
      prompt: scripted([cut, cut, cut, cut, cut], 'turns-own-'),
      max_turns: 2,
      timeout,
    });
    assert.equal(body['success'], false);
    assert.ok(callsWith(service, 'turns-own-').length <= 2, `${callsWith(service, 'turns-own-').length} model calls`);
  });
});

describe('max_budget_usd', { concurrency: 4 }, () => {
  const steps: Step[] = [
    { ...list, ...dollar },
    { ...list, ...dollar },
    { text: 'Done.', ...dollar },
  ];
  const budgets: readonly [budget: number, calls: number, stop: string][] = [
    [0.5, 1, 'max_budget'],
    [1, 1, 'max_budget'],
    [1.5, 2, 'max_budget'],
    [2.5, 3, 'end_turn'],
    [9, 3, 'end_turn'],
  ];
  for (const [max_budget_usd, calls, stop] of budgets) {
    test(`no call is sent once ${max_budget_usd} are spent`, async () => {
      const word = `budget-${max_budget_usd}-`;
      const { status, body } = await query(service, { prompt: scripted(steps, word), max_budget_usd, timeout });
      assert.equal(status, 200);
      assert.deepEqual([body['stop_reason'], body['success']], [stop, stop === 'end_turn']);
      assert.equal(callsWith(service, word).length, calls);
      assert.equal(body['cost_usd'], calls);
      const stored = rows(service, 'select cost_usd from usage where conversation = ?', body['session_id']);
      assert.deepEqual(
        stored.map(({ cost_usd }) => cost_usd),
        Array.from({ length: calls }, () => 1),
      );
    });
  }

  test('holds for calls that Claude Code makes by itself', async () => {
    const cut: Step = { text: 'So much', stop_reason: 'max_tokens', ...dollar };
    const request = { prompt: scripted([cut, cut, cut, cut], 'budget-own-'), max_budget_usd: 2, timeout };
    const { status, body } = await query(service, request);
    assert.deepEqual([status, body['stop_reason'], body['cost_usd']], [200, 'max_budget', 2]);
    assert.equal(callsWith(service, 'budget-own-').length, 2);
  });

  test('a model without a known price is not called under a budget', async () => {
    const request = { prompt: scripted(steps, 'budget-unknown-'), model: 'unpriced-model', timeout };
    const { status, body } = await query(service, { ...request, max_budget_usd: 9 });
    assert.deepEqual(
      [status, body['code'], body['detail'][0].loc],
      [422, 'validation_failed', ['body', 'max_budget_usd']],
    );
    assert.equal(callsWith(service, 'budget-unknown-').length, 0);
    assert.equal((await query(service, request)).body['success'], true);
  });
});

test('a conversation that outgrows the window of the model is too long, not a fault of the service', async () => {
  const full = { ...list, usage: { input_tokens: 1_000_000, output_tokens: 1 } };
  const { status, body } = await query(service, { prompt: scripted([full, full, { text: 'Done.' }]), timeout });
  assert.deepEqual([status, body['code']], [413, 'prompt_too_long']);
});

describe('a client that leaves stops its run', () => {
  test('in the middle of a stream', async () => {
    const leave = new AbortController();
    const response = await send(
      service,
      'stream',
      { prompt: scripted([endless], 'left-stream-'), timeout },
      leave.signal,
    );
    const { value } = await response.body!.getReader().read();
    assert.match(Buffer.from(value ?? []).toString(), /^id: \S+\ndata: \{/u);
    leave.abort();
    await assertCancelled('left-stream-');
  });

  test('while it waits for an answer', async () => {
    const leave = new AbortController();
    const answer = send(service, 'query', { prompt: scripted([endless], 'left-query-'), timeout }, leave.signal);
    await until(() => callsWith(service, 'left-query-').length === 1);
    leave.abort();
    await assert.rejects(answer, { name: 'AbortError' });
    await assertCancelled('left-query-');
  });
});

async function assertCancelled(word: string): Promise<void> {
  await until(() => callsWith(service, word)[0]?.outcome === 'client_left');
  await until(() => turnState(service, word) !== 'running');
  assert.equal(turnState(service, word), 'cancelled');
  await assertNothingLeft();
}

test('a killed Claude Code is an error at once, and the next query works', async () => {
  const run = query(service, { prompt: scripted([endless], 'killed-'), timeout });
  await until(() => callsWith(service, 'killed-').length === 1);
  process.kill(await onlyAgent(), 'SIGKILL');
  const { status, body } = await run;
  assert.deepEqual([status, body['code'], body['retryable']], [502, 'agent_crashed', true]);
  assert.equal(turnState(service, 'killed-'), 'failed');
  await assertNothingLeft();
  assert.equal((await query(service, { prompt: scripted([{ text: 'Alive.' }]), timeout })).body['success'], true);
});

test('twenty callers at once get each their own answer', async () => {
  const numbers = Array.from({ length: 20 }, (_, index) => index);
  const answers = await inBatches(numbers.length, numbers, async (index) => {
    const prompt = scripted([list, { text: `The answer for ${index}.` }], `crowd-${index}-`);
    if (index % 2 === 0) return answerOf((await query(service, { prompt, timeout })).body);
    return joined(await stream(service, { prompt, timeout }));
  });
  assert.deepEqual(
    answers,
    numbers.map((index) => `The answer for ${index}.`),
  );
  await assertNothingLeft();
});
