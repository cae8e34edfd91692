import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { Options, SessionStoreEntry } from '@anthropic-ai/claude-agent-sdk';
import type { Brain } from '@sallyport/simulator';
import { startClaude, type Claude } from './claude.ts';

const limit = { timeout: 60_000 };
const write = { tools: [{ name: 'Write', input: { file_path: 'a', content: 'x' } }] };
const tools = ['Write'];

/** Starts a turn and kills its process as soon as it is `ready`; gives what was stored. */
async function killed(t: TestContext, brain: Brain, options: Partial<Options>, ready: Promise<unknown>) {
  const entries: SessionStoreEntry[] = [];
  const claude = await startClaude(brain, {
    sessionId: randomUUID(),
    sessionStoreFlush: 'eager',
    sessionStore: { append: async (_key, more) => void entries.push(...more), load: async () => null },
    tools,
    ...options,
  });
  t.after(() => claude.close());
  claude.send('go', { uuid: randomUUID() });
  const over = claude.turn().catch(() => {});
  await ready;
  // Claude Code gathers what it writes for some 100 ms.
  await new Promise((resolve) => setTimeout(resolve, 500));
  claude.child().kill('SIGKILL');
  await over;
  return { claude, entries };
}

/** Goes on with a turn by itself. */
async function goesOn(t: TestContext, { claude, entries }: Awaited<ReturnType<typeof killed>>, brain: Brain) {
  const started = Promise.withResolvers<Claude>();
  const switches = { CLAUDE_CODE_RESUME_INTERRUPTED_TURN: '1', CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1' };
  const other = await startClaude(brain, { tools });
  t.after(() => other.close());
  const next = await startClaude(brain, {
    tools,
    cwd: claude.workspace,
    env: {
      PATH: '/usr/bin:/bin',
      ...switches,
      HOME: other.configDir,
      CLAUDE_CONFIG_DIR: other.configDir,
      ANTHROPIC_BASE_URL: other.simulator.url,
      ANTHROPIC_API_KEY: 'no-key',
    },
    resume: String(entries[0]?.['sessionId']),
    sessionStore: {
      append: async () => {},
      async load({ projectKey, sessionId }) {
        await started.promise;
        const path = join(other.configDir, 'projects', projectKey, `${sessionId}.jsonl`);
        await mkdir(dirname(path), { recursive: true });
        await writeFile(path, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
        return null;
      },
    },
  });
  started.resolve(next);
  t.after(() => next.close());
  const { result } = await next.turn();
  return { result, messages: JSON.stringify(other.simulator.requests.at(-1)?.body?.messages) };
}

test('a model message is stored when its stream has ended, and not before', limit, async (t) => {
  const hooked = Promise.withResolvers<void>();
  const blocks = [
    { type: 'text' as const, text: 'canary' },
    { type: 'tool_use' as const, name: 'Write', input: write.tools[0]!.input },
    { type: 'text' as const, text: 'word '.repeat(2000) },
  ];
  const hook = async () => {
    hooked.resolve();
    return {};
  };
  const cut = await killed(
    t,
    () => ({ blocks, rate: 50 }),
    { hooks: { PreToolUse: [{ hooks: [hook] }] } },
    hooked.promise,
  );
  assert.ok(cut.entries.some(({ type }) => type === 'user'));
  assert.ok(!cut.entries.some(({ type }) => type === 'assistant'));
});

test('a call that is left open is dropped with its message, and the model is asked anew', limit, async (t) => {
  const asked = Promise.withResolvers<void>();
  const canUseTool: Options['canUseTool'] = () => {
    asked.resolve();
    return new Promise(() => {});
  };
  const open = await killed(t, () => ({ text: 'canary', ...write }), { canUseTool }, asked.promise);
  const last = open.entries.findLast(({ type }) => type === 'assistant');
  assert.match(JSON.stringify(last), /"type":"tool_use".*"stop_reason":"tool_use"/);
  const { result, messages } = await goesOn(t, open, () => ({ text: 'done' }));
  assert.equal(result.subtype, 'success');
  assert.doesNotMatch(messages, /tool_use|canary/);
});
