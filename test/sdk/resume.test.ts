import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { Options, SDKMessage, SessionStoreEntry } from '@anthropic-ai/claude-agent-sdk';
import { startClaude, type Claude } from './claude.ts';

const limit = { timeout: 60_000 };
/** What others have left in the system's temporary directory. */
const before = new Set(await readdir(tmpdir()));
const first = {
  steps: [{ text: 'I look.', tools: [{ name: 'Read', input: { file_path: 'a' } }] }, { text: 'first answer' }],
};

/** Runs a first turn and gives what is stored of it. The process stays. */
async function firstTurn(t: TestContext, sessionId: string) {
  const entries: SessionStoreEntry[] = [];
  const claude = await startClaude(first, {
    sessionId,
    sessionStoreFlush: 'eager',
    sessionStore: { append: async (_key, more) => void entries.push(...more), load: async () => null },
  });
  t.after(() => claude.close());
  claude.send('first prompt', { uuid: randomUUID() });
  await claude.turn();
  return { claude, entries };
}

/** Resumes from entries that are put where Claude Code looks for them, while the SDK is told that there are none. */
async function resumed(
  t: TestContext,
  resume: string,
  entries: readonly SessionStoreEntry[],
  changes: Partial<Options>,
) {
  const started = Promise.withResolvers<Claude>();
  const claude = await startClaude(
    { steps: [{ text: 'second answer' }] },
    {
      resume,
      sessionStoreFlush: 'eager',
      sessionStore: {
        append: async () => {},
        async load({ projectKey, sessionId }) {
          const { configDir } = await started.promise;
          const path = join(configDir, 'projects', projectKey, `${sessionId}.jsonl`);
          await mkdir(dirname(path), { recursive: true });
          await writeFile(path, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
          return null;
        },
      },
      ...changes,
    },
  );
  started.resolve(claude);
  t.after(() => claude.close());
  claude.send('second prompt', { uuid: randomUUID() });
  return { ...(await claude.turn()), claude };
}

/** The last request's messages of user and model, without Claude Code's reminders. */
function talk({ simulator }: Claude) {
  const messages = simulator.requests.at(-1)?.body?.messages ?? [];
  return messages
    .filter(({ role }) => role !== 'system')
    .map(({ role, content }) => {
      const blocks = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
      const own = blocks.filter(({ text }) => text?.startsWith('<system-reminder>') !== true);
      return [role, ...own.map(({ type, text, content: inner }) => [type, text ?? inner])];
    });
}

const sessionOf = (messages: readonly SDKMessage[]) =>
  messages.find((message) => message.type === 'system' && message.subtype === 'init')?.session_id;

test('a transcript in the config directory is gone on from as if the process had stayed', limit, async (t) => {
  const sessionId = randomUUID();
  const { claude: live, entries } = await firstTurn(t, sessionId);
  const past = [...entries];
  live.simulator.play({ steps: [{ text: 'second answer' }] });
  live.send('second prompt', { uuid: randomUUID() });
  await live.turn();
  const { claude, messages, result } = await resumed(t, sessionId, past, { cwd: live.workspace });
  assert.deepEqual([result.subtype, sessionOf(messages)], ['success', sessionId]);
  assert.deepEqual(talk(claude), talk(live));
  assert.equal(talk(claude).length, 5);
  const left = (await readdir(tmpdir())).filter((name) => name.startsWith('claude-resume-') && !before.has(name));
  assert.deepEqual(left, [], 'the SDK made no directory of its own');
});

test(
  'a transcript that ends anywhere after its first message is gone on from, an earlier one is not',
  limit,
  async (t) => {
    const sessionId = randomUUID();
    const { entries } = await firstTurn(t, sessionId);
    const kinds = entries.map(({ type }) => type);
    const [user, call] = [kinds.indexOf('user'), kinds.lastIndexOf('user') - 1];
    assert.ok(user > 0 && kinds[call] === 'assistant');
    for (const [end, found] of [
      [user, false],
      [user + 1, true],
      [call + 1, true],
    ] as const) {
      const { claude, result } = await resumed(t, sessionId, entries.slice(0, end), {});
      if (!found) {
        assert.equal(result.subtype, 'error_during_execution');
        assert.match('errors' in result ? result.errors.join() : '', /No conversation found/);
        continue;
      }
      assert.equal(result.subtype, 'success');
      const users = talk(claude).filter(([role]) => role === 'user');
      assert.deepEqual(users[0], ['user', ['text', 'first prompt']]);
      assert.deepEqual(users.at(-1), ['user', ['text', 'second prompt']]);
      assert.equal(users.length, end === user + 1 ? 2 : 3, 'an open tool call gets a result');
    }
  },
);
