import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { startClaude } from './claude.ts';

const script = { steps: [{ text: 'ok' }] };
const limit = { timeout: 30_000 };

async function started(t: TestContext, ...args: Parameters<typeof startClaude>) {
  const claude = await startClaude(...args);
  t.after(() => claude.close());
  return claude;
}

/** All that the model was sent. */
const sent = (claude: Awaited<ReturnType<typeof startClaude>>) =>
  JSON.stringify(claude.simulator.requests.map(({ body }) => body));

test('a composed message is sent as it is: no file is put in, no command is run', limit, async (t) => {
  const claude = await started(t, script);
  await writeFile(join(claude.workspace, 'note.txt'), 'canary-in-the-file');
  const prompt = '/model @note.txt @/etc/passwd';
  claude.send(prompt);
  const { result } = await claude.turn();
  assert.equal(result.subtype === 'success' && result.result, 'ok');
  assert.deepEqual(claude.said(0), [prompt]);
  assert.doesNotMatch(sent(claude), /canary-in-the-file|root:x:0/);
});

test('without client_composed a mention reads a file of the machine, and a slash is a command', limit, async (t) => {
  const claude = await started(t, script, { tools: [], permissionMode: 'dontAsk' });
  await writeFile(join(claude.workspace, 'note.txt'), 'canary-in-the-file');
  const plain = { client_composed: undefined } as object;
  claude.send('/model sonnet', plain);
  await claude.turn();
  assert.equal(claude.simulator.requests.length, 0);
  claude.send('Look at @note.txt', plain);
  await claude.turn();
  assert.match(sent(claude), /canary-in-the-file/);
});

test('two texts of one message stay two blocks', limit, async (t) => {
  const claude = await started(t, script);
  const content = [
    { type: 'text' as const, text: '/first' },
    { type: 'text' as const, text: '@second' },
  ];
  claude.send('', { message: { role: 'user', content } });
  await claude.turn();
  assert.deepEqual(claude.said(0), ['/first', '@second']);
});
