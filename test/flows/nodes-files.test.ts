import assert from 'node:assert/strict';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { after, before, describe, test, type TestContext } from 'node:test';
import { call } from '../support/approvals.ts';
import { nodesOn, type TestNode } from '../support/nodes.ts';
import { leftOutWithoutPostgres, startPostgres, type PostgresServer } from '../support/postgres.ts';
import { scripted } from '../support/runs.ts';
import { query } from '../support/service.ts';

const write = (path: string, content: string) => ({
  tools: [{ name: 'Write', input: { file_path: `/workspace/${path}`, content } }],
});
const read = (path: string) => ({ tools: [{ name: 'Read', input: { file_path: `/workspace/${path}` } }] });

const start = (node: TestNode, id: string, steps: Parameters<typeof scripted>[0]) =>
  query(
    node,
    { permission_mode: 'acceptEdits', prompt: scripted(steps) },
    { path: `/api/claude/conversation/start?session_id=${id}` },
  );
const say = (node: TestNode, id: string, steps: Parameters<typeof scripted>[0]) =>
  query(node, { session_id: id, message: scripted(steps) }, { path: `/api/claude/conversation/${id}/continue` });

/** What the probe says is wrong with a node. */
async function failing(node: TestNode): Promise<string> {
  const response = await fetch(`${node.url}/readyz`);
  return response.status === 200 ? '' : await response.text();
}

describe('the files that nodes share', { skip: leftOutWithoutPostgres('the files that nodes share') }, () => {
  let postgres: PostgresServer;
  let made = 0;
  before(async () => {
    postgres = await startPostgres();
  });
  after(() => postgres.close());

  async function nodesWithFiles(context: TestContext) {
    const nodes = await nodesOn(context, postgres, `files_${(made += 1)}`, 300);
    const one = await nodes.start('a');
    const { body } = await start(one, 'past', [write('a.txt', 'of the first'), { text: 'Written.' }]);
    assert.equal(body['success'], true, JSON.stringify(body));
    return { nodes, one, other: await nodes.start('b') };
  }

  test('a node whose directory is gone runs nothing, deletes nothing, and goes on when it is back', async (context) => {
    const { nodes, one, other } = await nodesWithFiles(context);
    await start(one, 'old', [write('a.txt', 'of another'), { text: 'Written.' }]);
    const kept = (await readdir(nodes.workspaces)).length;
    // What is there when a file system is not mounted.
    await rename(nodes.workspaces, `${nodes.workspaces}.away`);
    await mkdir(nodes.workspaces, { mode: 0o700 });
    const asked = nodes.simulator.requests.length;
    for (const node of [one, other]) {
      assert.match(await failing(node), /"workspaces"/u);
      for (const answer of [
        await say(node, 'past', [write('a.txt', 'lost'), { text: 'No.' }]),
        await start(node, `new-${new URL(node.url).port}`, [write('b.txt', 'lost'), { text: 'No.' }]),
      ]) {
        assert.deepEqual([answer.status, answer.body['code']], [503, 'not_ready'], JSON.stringify(answer.body));
      }
      for (const [method, path] of [
        ['GET', 'conversation/past/files'],
        ['GET', 'conversation/past/files/a.txt'],
        ['DELETE', 'conversation/old'],
      ] as const) {
        const { status, body } = await call(node, method, path);
        assert.deepEqual([status, body['code']], [503, 'not_ready'], `${method} ${path}: ${JSON.stringify(body)}`);
      }
    }
    assert.deepEqual(await readdir(nodes.workspaces), []);
    assert.equal(nodes.simulator.requests.length, asked);
    await rm(nodes.workspaces, { recursive: true });
    await rename(`${nodes.workspaces}.away`, nodes.workspaces);
    for (const node of [one, other]) assert.equal(await failing(node), '');
    const { body } = await say(other, 'past', [read('a.txt'), { text: 'Read.' }]);
    assert.equal(body['success'], true, JSON.stringify(body));
    assert.match(JSON.stringify(nodes.simulator.requests.at(-1)?.body), /of the first/u);
    assert.equal((await call(other, 'DELETE', 'conversation/old')).status, 200);
    assert.equal((await readdir(nodes.workspaces)).length, kept - 1);
  });

  test('a node that was given another directory does not start', async (context) => {
    const { nodes } = await nodesWithFiles(context);
    await assert.rejects(
      nodes.start('c', { SALLYPORT_WORKSPACES_DIR: `${nodes.workspaces}.other` }),
      /is its file system mounted, and SALLYPORT_WORKSPACES_DIR the same for all servers/u,
    );
    assert.deepEqual(await readdir(`${nodes.workspaces}.other`), []);
  });
});
