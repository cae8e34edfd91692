import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { SessionKey, SessionStoreEntry } from '@anthropic-ai/claude-agent-sdk';
import { startClaude } from './claude.ts';

const limit = { timeout: 30_000 };

test('the transcript comes in order under our session, with our uuid, before the result', limit, async (t) => {
  const sessionId = randomUUID();
  const uuid = randomUUID();
  const stored: { key: SessionKey; entries: SessionStoreEntry[] }[] = [];
  const claude = await startClaude(
    { steps: [{ text: 'I look.', tools: [{ name: 'Read', input: { file_path: 'a' } }] }, { text: 'done' }] },
    {
      sessionId,
      sessionStoreFlush: 'eager',
      sessionStore: {
        append: async (key, entries) => void stored.push({ key, entries }),
        load: async () => null,
      },
    },
  );
  t.after(() => claude.close());
  claude.send('go', { uuid });
  await claude.turn();
  const entries = stored.flatMap((batch) => batch.entries);
  assert.deepEqual([...new Set(stored.map(({ key }) => key.sessionId))], [sessionId]);
  const kinds = entries.map(({ type }) => type).filter((type) => type === 'user' || type === 'assistant');
  assert.deepEqual(kinds, ['user', 'assistant', 'assistant', 'user', 'assistant']);
  const [first] = entries.filter(({ type }) => type === 'user');
  assert.equal(first?.uuid, uuid);
  assert.ok(stored.length > 1, 'eager: not all at once');
});

test('an append that fails is repeated with the same array, then given up in words only', limit, async (t) => {
  const batches: SessionStoreEntry[][] = [];
  const claude = await startClaude(
    { steps: [{ text: 'done' }] },
    {
      sessionStoreFlush: 'eager',
      sessionStore: {
        async append(_key, entries) {
          batches.push(entries);
          if (batches[0] === entries) throw new Error('canary-failure');
        },
        load: async () => null,
      },
    },
  );
  t.after(() => claude.close());
  claude.send('go');
  const { messages, result } = await claude.turn();
  const errors = messages.filter((message) => message.type === 'system' && message.subtype === 'mirror_error');
  assert.deepEqual(
    errors.map((message) => 'error' in message && message.error),
    ['canary-failure'],
  );
  assert.equal(batches.filter((batch) => batch === batches[0]).length, 3);
  assert.ok(batches.length > 3, 'what comes after the gap is appended all the same');
  assert.deepEqual([result.subtype, result.is_error], ['success', false]);
});
