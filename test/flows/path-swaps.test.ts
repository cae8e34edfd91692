import assert from 'node:assert/strict';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import type { Brain, Step } from '@sallyport/simulator';
import { placeOf } from '../../packages/server/src/engine/workspaces.ts';
import { call } from '../support/approvals.ts';
import { onGrounds, planted, type Grounds } from '../support/canaries.ts';
import { makeProject } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { play, type Played } from '../support/played.ts';
import { userKey, type TestService } from '../support/service.ts';
import { swapping } from '../support/swapping.ts';
import { start } from '../support/workspaces.ts';

let service: TestService;
let grounds: Grounds;

const files = { 'dir/secret.txt': 'inside-of-it\n', 'dir/environ': 'inside-of-it\n' };
const rounds = 6;

/** Calls of every tool that takes a path, in a directory that is swapped meanwhile. */
const callsIn = (at: string, round: number) =>
  Object.entries({
    secret: ['Read', { file_path: `${at}/secret.txt` }],
    environ: ['Read', { file_path: `${at}/environ` }],
    grep: ['Grep', { pattern: '.', path: at, output_mode: 'content' }],
    token: ['Grep', { pattern: 'sallyport.run.[a-z0-9]', path: at, output_mode: 'content' }],
    file: ['Grep', { pattern: '.', path: `${at}/environ`, output_mode: 'content' }],
    glob: ['Glob', { pattern: '*', path: at }],
    pattern: ['Glob', { pattern: `${at}/*` }],
    edit: ['Edit', { file_path: `${at}/secret.txt`, old_string: 'inside', new_string: 'inside' }],
    write: ['Write', { file_path: `${at}/${planted}-${round}`, content: planted }],
  } as Record<string, [string, object]>).map(([id, [name, input]]) => ({ id: `${id}-${round}`, name, input }));

/** A run whose tools look into `dir` of its project, while that leads now here, now there. */
async function playSwapped(t: TestContext, project: string, swap: Parameters<typeof swapping>[2]): Promise<Played> {
  const at = join(project, 'dir');
  const steps: Step[] = Array.from({ length: rounds }, (_, step) => ({
    tools: Array.from({ length: 4 }, (__, round) => callsIn(at, step * 4 + round)).flat(),
  }));
  let stop = async () => {};
  const brain: Brain = async (_request, { call: number }) => {
    if (number === 0) stop = await swapping(t, at, swap);
    if (number === steps.length) await stop();
    return steps[number] ?? { text: 'Done.' };
  };
  const tools = ['Read', 'Grep', 'Glob', 'Edit', 'Write'];
  const request = { project_path: project, permission_mode: 'strict', allowed_tools: tools, timeout: 300 };
  const played = await play(service, brain, request);
  assert.equal(played.body['stop_reason'], 'end_turn', JSON.stringify(played.body));
  const read = Array.from({ length: rounds * 4 }, (_, round) => played.returned(`secret-${round}`).text);
  assert.ok(
    read.some((text) => text.includes('inside-of-it')),
    'it led inside at times',
  );
  return played;
}

describe('a directory that is swapped for a link', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  onGrounds((made) => ({ service, grounds } = made));

  const beside = () => grounds.outsides[0]?.directory ?? '';

  test('leads no tool out, and the run goes on', async (t) => {
    const project = await makeProject(service, 'tools', files);
    const played = await playSwapped(t, project, { outside: beside(), away: join(service.root, 'away-tools') });
    grounds.assertNoneIn(JSON.stringify(played.body), 'the answer');
    await grounds.assertUntouched([service.root]);
  });

  test('is always told to be inside or outside', async (t) => {
    const project = await makeProject(service, 'places', files);
    const swap = { outside: beside(), away: join(service.root, 'away-places'), pause: 0 };
    const stop = await swapping(t, join(project, 'dir'), swap);
    const view = { root: project, hostRoot: project, readFile: async () => null, stamps: async () => null };
    const places = new Set<string>();
    for (let round = 0; round < 3000; round += 1) {
      const path = join(project, 'dir/secret.txt');
      places.add(await placeOf(view, path).catch((error: NodeJS.ErrnoException) => error.code ?? 'failed'));
    }
    await stop();
    assert.deepEqual(places, new Set(['inside', 'outside']));
  });

  test('leads no tool to what Claude Code keeps from the model', async (t) => {
    const project = await makeProject(service, 'process', {
      'real/secret.txt': 'inside-of-it\n',
      'real/environ': 'inside-of-it\n',
    });
    await symlink('real', join(project, 'dir'));
    const swap = { outside: '/proc/self', inside: 'real', away: join(project, 'away') };
    const played = await playSwapped(t, project, swap);
    grounds.assertNoneIn(JSON.stringify(played.body), 'the answer');
    await grounds.assertUntouched([service.root]);
  });

  test('is no way out for what reads the files of a conversation', async (t) => {
    const project = await makeProject(service, 'read', files);
    await start(service, 'read', [{ text: 'Hi.' }], { project_path: project });
    const get = async (path: string) => {
      const response = await fetch(`${service.url}/api/claude/conversation/read/${path}`, {
        headers: { authorization: `Bearer ${userKey}` },
      });
      // An archive that a change makes impossible is broken off.
      return { status: response.status, text: await response.text().catch(() => '') };
    };
    const swap = { outside: beside(), away: join(service.root, 'away-read') };
    const stop = await swapping(t, join(project, 'dir'), swap);
    const statuses = new Set<number>();
    for (let round = 0; round < 100 || (statuses.size < 2 && round < 5000); round += 1) {
      const paths = ['files/dir/secret.txt', 'files', 'diff', ...(round % 10 === 0 ? ['files.zip'] : [])];
      for (const path of paths) {
        const { status, text } = await get(path);
        grounds.assertNoneIn(text, path);
        if (path === 'files/dir/secret.txt') statuses.add(status);
        else assert.equal(status, 200, `${path}: ${text}`);
      }
    }
    await stop();
    assert.deepEqual(statuses, new Set([200, 404]));
    await grounds.assertUntouched([service.root]);
  });

  test('is no project while it is a link', async (t) => {
    const project = await makeProject(service, 'projects', files);
    const at = join(project, 'dir');
    const above = grounds.outsides.find(({ name }) => name === 'above')?.directory ?? '';
    const stop = await swapping(t, at, { outside: above, away: join(service.root, 'away-projects') });
    service.simulator.play((_request, { call: number }) =>
      number === 0 ? { tools: callsIn(at, 0).slice(0, 3) } : { text: 'Done.' },
    );
    const ask = () => call(service, 'POST', 'query', { prompt: 'Read.', project_path: at, timeout: 200 });
    const refusals = new Set<string>();
    for (let round = 0; round < 30; round += 1) {
      const { status, body } = await ask();
      grounds.assertNoneIn(JSON.stringify(body), 'the answer');
      if (status !== 200) refusals.add(body['code']);
    }
    await stop();
    const known = new Set(['path_not_allowed', 'workspace_not_accessible', 'agent_crashed']);
    assert.ok(refusals.size > 0 && refusals.isSubsetOf(known), [...refusals].join(' '));
    await grounds.assertUntouched([service.root]);
  });
});
