import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { query, startService, upstreamKey, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

test('a query answers from files that Claude Code really read', async () => {
  const project = join(service.root, 'garden');
  await mkdir(project);
  const word = `word-${Math.random().toString(36).slice(2)}`;
  await writeFile(join(project, 'README.md'), `${word} grows here\n`);
  await writeFile(join(project, 'tools.txt'), 'a spade\n');
  const { status, body } = await query(service, {
    prompt: 'What grows here?',
    permission_mode: 'readOnly',
    project_path: project,
  });
  assert.equal(status, 200);
  assert.equal(body['success'], true);
  assert.equal(body['stop_reason'], 'end_turn');
  assert.match(body['messages'].at(-1).content, new RegExp(word, 'u'));
  assert.deepEqual(body['tools_used'], ['Glob', 'Read']);
  assert.equal(body['messages'][0].role, 'user');
  assert.ok(body['usage'].input_tokens > 0 && body['usage'].output_tokens > 0);
  assert.equal(body['tokens_used'], body['usage'].input_tokens + body['usage'].output_tokens);
  assert.ok(body['execution_time'] > 0);
  const keys = new Set(service.simulator.requests.map((request) => request.headers['x-api-key']));
  assert.deepEqual([...keys], [upstreamKey]);
});

test('edits of given files come back as a diff', async () => {
  const script = [
    { tools: [{ name: 'Read', input: { file_path: '/workspace/a.txt' } }] },
    { tools: [{ name: 'Edit', input: { file_path: '/workspace/a.txt', old_string: 'one', new_string: 'two' } }] },
    { text: 'Done.' },
  ];
  const { status, body } = await query(service, {
    prompt: `<<simulate ${JSON.stringify(script)}>>`,
    permission_mode: 'acceptEdits',
    files: [{ path: 'a.txt', content: 'one\n' }],
    max_turns: 5,
  });
  assert.equal(status, 200);
  assert.equal(body['success'], true, JSON.stringify(body));
  assert.match(body['changes'], /^--- a\/a\.txt/mu);
  assert.match(body['changes'], /^-one\n\+two$/mu);
  assert.deepEqual(body['changed_paths'], ['a.txt']);
});
