import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Step } from '@sallyport/simulator';
import { call } from '../support/approvals.ts';
import { onGrounds, notebookOf, planted, type Grounds } from '../support/canaries.ts';
import { leftOut } from '../support/needs.ts';
import {
  hostilePaths,
  layTraps,
  longPaths,
  slotBeside,
  trappedProject,
  type HostilePath,
  type Start,
} from '../support/paths.ts';
import { callsWith, send } from '../support/runs.ts';
import type { TestService } from '../support/service.ts';
import { read } from '../support/workspaces.ts';

type Body = Record<string, any>;

let service: TestService;
let grounds: Grounds;

describe('paths in the fields of the API', { skip: leftOut('jail', ['bwrap', 'socat', 'python3']) }, () => {
  onGrounds((made) => ({ service, grounds } = made), { script: () => ({ text: 'Done.' }) });

  test('no project is taken outside of the roots', async () => {
    // Here the root takes the place of the workspace, and what lies in it is inside.
    const outsides = grounds.outsides.filter(({ name }) => name !== 'beside');
    const at: Start = { at: service.root, disk: service.root, outsides };
    await writeFile(join(service.root, 'in.txt'), 'inside');
    await mkdir(join(service.root, 'inner'));
    await layTraps(at);
    const said = new Set<string>();
    const prompt = `No project ${planted}.`;
    const paths = [...hostilePaths(at), ...longPaths(at)].flatMap(({ directory, file, leaves }) =>
      [directory, file].map((path) => ({ path, leaves })),
    );
    for (const [index, { path, leaves }] of paths.entries()) {
      // The root itself may be one, and no path is none.
      if (!leaves && (path === '' || path === `${at.at}/.`)) continue;
      const where = ['query', 'stream', `conversation/start?session_id=p-${index}`][index % 3] ?? '';
      const response = await send(service, where, { prompt, project_path: path });
      const body = await response.text();
      assert.ok([403, 422].includes(response.status), `${path.slice(0, 300)}: ${response.status} ${body}`);
      grounds.assertNoneIn(body, path);
      if (response.status === 403) said.add(JSON.stringify({ ...(JSON.parse(body) as Body), request_id: '' }));
    }
    // Which of them exists is not told.
    assert.equal(said.size, 1, [...said].join('\n'));
    assert.deepEqual(callsWith(service, prompt), []);
    await grounds.assertUntouched();
  });

  test('no given file gets out of its workspace', async () => {
    const at: Start = { at: '/workspace', disk: '/workspace', outsides: grounds.outsides };
    const paths = [...hostilePaths(at)].flatMap(({ fresh, file }) => [fresh, file, fresh.replace('/workspace/', '')]);
    const refused = async (files: readonly { path: string; content: string }[]) => {
      const { status, body } = await call(service, 'POST', 'query', { prompt: 'Hi.', files: [...files, files[0]] });
      assert.equal(status, 422);
      return (body['detail'] as Body[]).map(({ loc }) => loc as (string | number)[]);
    };
    const taken = new Set<string>();
    for (const path of new Set(paths)) {
      // The second of two equal paths is refused, too: what is not refused for itself is taken.
      const places = await refused([{ path, content: planted }]);
      if (!places.some((loc) => loc.includes('path'))) taken.add(path);
    }
    // One cannot be a file and a directory.
    const names = [...taken].filter((path) => ![...taken].some((other) => other.startsWith(`${path}/`)));
    const files = names.map((path) => ({ path, content: planted }));
    const before = service.sallyport.processes().map(({ id }) => id);
    const { status, body } = await call(service, 'POST', 'conversation/start?session_id=given', {
      prompt: 'Hi.',
      files,
    });
    assert.equal(status, 200, JSON.stringify(body));
    const listed = await call(service, 'GET', 'conversation/given/files');
    const found = (listed.body['items'] as Body[]).map(({ path }) => path as string);
    assert.deepEqual(found.toSorted(), names.toSorted());
    await grounds.assertUntouched([join(service.dataDir, 'workspaces'), slotBeside(service, before)]);
    await call(service, 'DELETE', 'conversation/given');
  });

  test('a given file whose name is longer than any can be is refused as the mistake that it is', async () => {
    for (const { file } of longPaths({ at: '/workspace', disk: '/workspace', outsides: [] })) {
      const path = file.replace('/workspace/', '');
      const { status, body } = await call(service, 'POST', 'query', { prompt: 'Hi.', files: [{ path, content: '' }] });
      assert.ok(status >= 400 && status < 500, `${path.slice(0, 50)}: ${status} ${JSON.stringify(body)}`);
    }
  });

  test('a human who puts another path in leads nowhere', async () => {
    const project = await trappedProject(service, grounds, 'approved', { 'asked.ipynb': notebookOf('x') });
    const inputs = hostilePaths(project)
      .filter(({ file }) => file !== '')
      .map((path, index) => ({ id: `call-${index}`, leaves: path.leaves, ...replacements[index % 3]!(path) }));
    const look = read(join(project.at, 'asked.ipynb'));
    const calls = inputs.map(({ id, name }) => ({ id, name, input: harmless(name, project.at, id) }));
    const turns: Step[] = [{ tools: [look] }, { tools: calls, parallel: true }];
    service.simulator.play((_request, { call: number }) => turns[number] ?? { text: 'Done.' });
    const request = {
      project_path: project.at,
      prompt: 'Go.',
      timeout: 300,
      allowed_tools: ['Read', 'Edit', 'Write', 'NotebookEdit'],
    };
    const over = new AbortController();
    const run = send(service, 'query', request).finally(() => over.abort());
    while (!over.signal.aborted) {
      const pending = await call(service, 'GET', 'approvals?status=pending');
      for (const { approval_id: id, tool_use_id: of } of pending.body['items'] as Body[]) {
        const updated_input = inputs.find((input) => input.id === of)?.input;
        const { status } = await call(service, 'POST', `approvals/${id}`, { decision: 'allow', updated_input });
        // What no tool takes is not even decided about.
        if (status === 422) await call(service, 'POST', `approvals/${id}`, { decision: 'deny' });
        else assert.equal(status, 200);
      }
      await delay(10);
    }
    const body = (await (await run).json()) as Body;
    assert.equal(body['stop_reason'], 'end_turn', JSON.stringify(body));
    const denied = new Set((body['permission_denials'] as Body[]).map((denial) => denial['tool_use_id']));
    const leaving = inputs.filter(({ leaves }) => leaves);
    assert.ok(leaving.length > 80);
    assert.deepEqual(
      leaving.filter(({ id }) => !denied.has(id)),
      [],
    );
    await grounds.assertUntouched([project.at]);
  });
});

const replacements: readonly ((path: HostilePath) => { name: string; input: Body })[] = [
  ({ fresh }) => ({ name: 'Write', input: { file_path: fresh, content: planted } }),
  ({ file }) => ({ name: 'Edit', input: { file_path: file, old_string: '', new_string: planted } }),
  ({ notebook }) => ({
    name: 'NotebookEdit',
    input: { notebook_path: notebook, new_source: planted, cell_id: 'c1' },
  }),
];

/** What the model asks for, before the human puts something else in its place. */
function harmless(name: string, at: string, id: string): Body {
  const path = join(at, `asked-${id}`);
  if (name === 'NotebookEdit') return { notebook_path: join(at, 'asked.ipynb'), new_source: 'x', cell_id: 'c1' };
  return name === 'Write' ? { file_path: path, content: 'x' } : { file_path: path, old_string: '', new_string: 'x' };
}
