import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test, type TestContext } from 'node:test';
import {
  prewarm,
  type ClaimOptions,
  type Options,
  type Query,
  type SDKResultMessage,
  type SDKUserMessage,
  type SpareProcess,
} from '@anthropic-ai/claude-agent-sdk';
import { setUp, type Setting } from './claude.ts';

const limit = { timeout: 60_000 };
const read = { tools: [{ name: 'Read', input: { file_path: 'a.txt' } }] };
const script = { steps: [read, { text: 'ok' }] };
/** What a claimed spare asks the model: once for the tool, once for the text. */
const wholeRun = 2;

type Parked = Setting & { readonly spare: SpareProcess };

/** A spare as the service parks one. It ends with the test. */
async function park(t: TestContext, options: Partial<Options> = {}): Promise<Parked> {
  const setting = await setUp(script, options);
  t.after(() => setting.close());
  const spare = await prewarm({ options: setting.options });
  // Each test that minds looks at it itself.
  spare.claimed.catch(() => {});
  return { ...setting, spare };
}

/** Claims a spare, and sends it a prompt. What is given stands over what the service always gives. */
function claim({ spare, workspace }: Parked, changes: Partial<ClaimOptions> = {}): Query {
  const input = new PassThrough({ objectMode: true });
  const message = { role: 'user', content: 'hello' };
  input.write({ type: 'user', message, parent_tool_use_id: null, client_composed: true });
  const options = { cwd: workspace, permissionMode: 'default' as const, ...changes };
  return spare.claim({ prompt: input as AsyncIterable<SDKUserMessage>, options });
}

/** Reads to the first result, or to the end where there is none. */
async function resultOf(session: Query): Promise<SDKResultMessage | null> {
  for (;;) {
    const { done, value } = await session.next();
    if (done === true) return null;
    if (value.type === 'result') return value;
  }
}

/** How a claim ended: with its session, or with an error that may have it too. */
async function claimedOf({ spare }: Parked): Promise<{ error: string | null; sessionId: string | undefined }> {
  try {
    return { error: null, sessionId: (await spare.claimed).sessionId };
  } catch (error) {
    const { message, claim: info } = error as Error & { claim?: { sessionId: string } };
    return { error: message, sessionId: info?.sessionId };
  }
}

async function assertRan(parked: Parked, session: Query): Promise<void> {
  const result = await resultOf(session);
  assert.deepEqual(
    [result?.subtype, result?.is_error, result?.subtype === 'success' && result.result],
    ['success', false, 'ok'],
  );
  assert.equal(parked.simulator.requests.length, wholeRun, 'the prompt was run once');
}

/** A value that the types would not let pass. */
const wrong = (value: unknown): never => value as never;

const refusals: Readonly<Record<string, { changes?: Partial<ClaimOptions>; options?: Partial<Options> }>> = {
  cwd_not_found: { changes: { cwd: '/nowhere/at/all' } },
  env_key_not_claimable: { changes: { env: { PATH: '/bin' } } },
  permission_mode_not_claimable: { changes: { permissionMode: 'bypassPermissions' } },
  project_settings_not_claimable: { options: { settingSources: ['project'] } },
};

for (const [reason, { changes, options }] of Object.entries(refusals)) {
  test(`a claim that is refused as ${reason} ends in an error, and the prompt is not run`, limit, async (t) => {
    const parked = await park(t, options);
    await mkdir(join(parked.workspace, 'project/.claude'), { recursive: true });
    await writeFile(join(parked.workspace, 'project/.claude/settings.json'), '{"env": {"A": "b"}}');
    const session = claim(parked, { cwd: join(parked.workspace, 'project'), ...changes });
    const { error, sessionId } = await claimedOf(parked);
    assert.ok(error?.startsWith(`${reason}: `), String(error));
    assert.equal(sessionId, undefined);
    const result = await resultOf(session);
    assert.ok(result?.is_error === true && result.subtype !== 'success');
    assert.match(result.errors[0] ?? '', /^not_claimed: /u);
    await assert.rejects(resultOf(session), /not_claimed: /u);
    await parked.spare.exited;
    assert.equal(parked.simulator.requests.length, 0);
  });
}

test(
  'settings that cannot be applied end the session without a result, and the prompt is not run',
  limit,
  async (t) => {
    for (const settings of [{ permissions: wrong('all') }, { agent: 'nobody' }]) {
      const parked = await park(t);
      const session = claim(parked, { settings });
      const { error } = await claimedOf(parked);
      assert.match(String(error), /^settings_not_applied: /u);
      assert.equal(await resultOf(session), null);
      await parked.spare.exited;
      assert.equal(parked.simulator.requests.length, 0);
    }
  },
);

test('a model or thinking that is refused is told, and the prompt is run once all the same', limit, async (t) => {
  const settings = { availableModels: ['sallyport-simulator'] };
  const options: readonly [string, Partial<ClaimOptions>][] = [
    ['model', { model: 'claude-opus-4-8' }],
    ['maxThinkingTokens', { maxThinkingTokens: wrong('many') }],
  ];
  for (const [name, changes] of options) {
    const parked = await park(t, { settings });
    const session = claim(parked, changes);
    const { error, sessionId } = await claimedOf(parked);
    assert.ok(error?.startsWith(`option_not_applied: ${name}: `), String(error));
    assert.ok(sessionId !== undefined);
    await assertRan(parked, session);
  }
});

test(
  'settings of hooks are refused before anything is sent, and the spare can still be claimed, once',
  limit,
  async (t) => {
    const parked = await park(t);
    assert.throws(() => claim(parked, { settings: { disableAllHooks: true } }), /can still be claimed/u);
    const session = claim(parked);
    assert.throws(() => claim(parked));
    await assertRan(parked, session);
    assert.equal((await claimedOf(parked)).error, null);
  },
);

test('a spare that has died or was closed cannot be claimed', limit, async (t) => {
  const died = await park(t);
  const exited = once(died.child(), 'exit');
  died.child().kill('SIGKILL');
  await exited;
  await died.spare.exited;
  assert.throws(() => claim(died));
  assert.match(String((await claimedOf(died)).error), /^spare_exited/u);
  const closed = await park(t);
  closed.spare.close();
  assert.throws(() => claim(closed));
  assert.match(String((await claimedOf(closed)).error), /^spare_closed/u);
  assert.deepEqual([died.simulator.requests.length, closed.simulator.requests.length], [0, 0]);
});

test('a claim of a spare that dies at that moment fails, and the prompt is not run', limit, async (t) => {
  const parked = await park(t);
  parked.child().kill('SIGKILL');
  // Nobody could have noticed yet.
  const session = claim(parked);
  assert.ok((await claimedOf(parked)).error !== null);
  await assert.rejects(resultOf(session));
  assert.equal(parked.simulator.requests.length, 0);
});

test('what a claim would ignore without a word does not compile', limit, async (t) => {
  const resume = '00000000-0000-4000-8000-000000000000';
  const cwd = '/';
  const ignored: readonly ClaimOptions[] = [
    // @ts-expect-error -- it would be ignored without a word
    { cwd, resume },
    // @ts-expect-error -- it would be ignored without a word
    { cwd, maxTurns: 1 },
    // @ts-expect-error -- it would be ignored without a word
    { cwd, systemPrompt: 'canary-prompt' },
    // @ts-expect-error -- it would be ignored without a word
    { cwd, outputFormat: { type: 'json_schema', schema: { type: 'object' } } },
  ];
  const parked = await park(t);
  const session = claim(parked, { ...Object.assign({}, ...ignored), cwd: parked.workspace });
  await assertRan(parked, session);
  assert.notEqual((await claimedOf(parked)).sessionId, resume);
  assert.ok(!JSON.stringify(parked.simulator.requests.map(({ body }) => body)).includes('canary-prompt'));
});
