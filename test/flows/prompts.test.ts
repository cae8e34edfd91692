import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { makeProject, strict } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { query, startService } from '../support/service.ts';

const canary = 'canary-of-a-file-3b7a';

describe('prompts', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  const claudeCodeReadsInto = [
    '@/etc/passwd',
    '@/workspace/../etc/hostname',
    '@notes.md',
    '@./notes.md please',
    'look at @/etc/passwd and @notes.md',
  ];
  const commands = ['/model opus', '/config', '/heapdump', '/clear', '/compact', '/memory', '/init', '/help'];
  const others = [
    '--settings={}',
    '-p --dangerously-skip-permissions',
    '!ls',
    '!touch made.txt',
    '#memory',
    '# memory',
  ];
  const prompts = [...claudeCodeReadsInto, ...commands, ...others];
  const plain = 'Good morning.';

  test('reach the model as they are, with nothing expanded, run or remembered', async () => {
    const own = await startService({ script: () => ({ text: 'Noted.' }) });
    try {
      const project = await makeProject(own, 'prompted', { 'notes.md': canary });
      const request = {
        project_path: project,
        permission_mode: 'strict',
        allowed_tools: strict.allowed_tools,
        timeout: 200,
      };
      const ask = async (prompt: string) => {
        const { body } = await query(own, { ...request, prompt });
        assert.equal(body['success'], true, JSON.stringify(body));
        assert.deepEqual(
          body['messages'].map(({ content }: { content: string }) => content),
          [prompt, 'Noted.'],
        );
        assert.deepEqual([body['tools_used'], body['model']], [[], 'sallyport-simulator']);
      };
      await ask(plain);
      await Promise.all(prompts.map(ask));
      const bare = (text: string) =>
        text.replaceAll(/proc-[0-9a-f]{12}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/gu, 'id');
      const sent = own.simulator.requests.map(({ body }) => bare(JSON.stringify(body?.messages)));
      const [template = ''] = sent;
      assert.equal(template.split(JSON.stringify(plain)).length, 2, template);
      const asItIs = (prompt: string) => template.replace(JSON.stringify(plain), () => JSON.stringify(prompt));
      assert.equal(sent.length, prompts.length + 1);
      assert.deepEqual(
        prompts.filter((prompt) => !sent.includes(asItIs(prompt))),
        [],
      );
      assert.deepEqual(
        (await readdir(project)).filter((name) => name !== '.claude'),
        ['notes.md'],
      );
    } finally {
      await own.close();
    }
  });
});
