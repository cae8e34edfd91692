import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SallyportError } from './errors.ts';
import type { WorkspaceView } from './ports.ts';
import { placeOf, placeOfCall, resolveProject } from './workspaces.ts';

let base: string;
let slot: WorkspaceView;
let project: WorkspaceView;

const view = (root: string, hostRoot: string): WorkspaceView => ({
  root,
  hostRoot,
  readFile: () => Promise.resolve(null),
  stamps: () => Promise.resolve(null),
});

before(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'sallyport-places-')));
  const root = join(base, 'ws');
  await mkdir(join(root, 'sub/.git/hooks'), { recursive: true });
  await mkdir(join(base, 'ws-sibling'));
  await writeFile(join(base, 'ws-sibling/secret'), 's');
  await writeFile(join(root, 'file'), 'f');
  await symlink(base, join(root, 'up'));
  await symlink('../ws-sibling/secret', join(root, 'leak'));
  await symlink('sub/../file', join(root, 'good'));
  await symlink('/workspace/file', join(root, 'mapped'));
  await symlink('/nonexistent/target', join(root, 'dangling'));
  await symlink('new-file', join(root, 'dangling-inside'));
  await symlink('loop', join(root, 'loop'));
  await symlink('sub/.git', join(root, 'hidden'));
  slot = view('/workspace', root);
  project = view(root, root);
});

after(() => rm(base, { recursive: true, force: true }));

const cases: [string, Awaited<ReturnType<typeof placeOf>>][] = [
  ['/workspace', 'inside'],
  ['/workspace/file', 'inside'],
  ['file', 'inside'],
  ['/workspace/new/deep/file', 'inside'],
  ['/workspace/good', 'inside'],
  ['/workspace/mapped', 'inside'],
  ['/workspace/dangling-inside', 'inside'],
  ['/workspace/sub/../file', 'inside'],
  ['/workspace/..', 'outside'],
  ['/workspace/../etc/passwd', 'outside'],
  ['../ws-sibling/secret', 'outside'],
  ['/workspace-sibling/x', 'outside'],
  ['/workspace/up/ws/file', 'outside'],
  ['/workspace/leak', 'outside'],
  ['/workspace/dangling', 'outside'],
  ['/workspace/loop', 'outside'],
  ['/etc/passwd', 'outside'],
  ['/proc/self/root/etc/passwd', 'outside'],
  ['/workspace/a\0b', 'outside'],
  ['~', 'outside'],
  ['~/x', 'outside'],
  ['~x', 'inside'],
  ['./~/x', 'inside'],
  [' /etc', 'outside'],
  ['/workspace/leak ', 'outside'],
  ['\u00a0/etc', 'outside'],
  ['\tfile', 'outside'],
  ['/workspace/sub/.git/hooks/pre-commit', 'sensitive'],
  ['/workspace/hidden/config', 'sensitive'],
  ['/workspace/.CLAUDE/settings.json', 'sensitive'],
  ['/workspace/.mcp.json', 'sensitive'],
];

for (const [path, place] of cases) {
  test(`${JSON.stringify(path)} is ${place}`, async () => {
    assert.equal(await placeOf(slot, path), place);
  });
}

test('a sibling whose name begins like the workspace is outside', async () => {
  assert.equal(await placeOf(project, `${project.root}-sibling/secret`), 'outside');
  assert.equal(await placeOf(project, join(project.root, 'file')), 'inside');
});

const calls: [string, Record<string, unknown>, string][] = [
  ['Read', { file_path: '/workspace/file' }, 'inside'],
  ['Read', { file_path: 7 }, 'outside'],
  ['Read', {}, 'outside'],
  ['Write', { file_path: '/workspace/leak' }, 'outside'],
  ['NotebookEdit', { notebook_path: '/etc/x.ipynb' }, 'outside'],
  ['Grep', { pattern: 'x' }, 'inside'],
  ['Grep', { pattern: 'x', path: '/etc' }, 'outside'],
  ['Glob', { pattern: '**/*.ts' }, 'inside'],
  ['Glob', { pattern: '/etc/*' }, 'outside'],
  ['Glob', { pattern: '/*/passwd' }, 'outside'],
  ['Glob', { pattern: '../*' }, 'outside'],
  ['Glob', { pattern: '*/../../*' }, 'outside'],
  ['Glob', { pattern: '{/etc/*,x}' }, 'outside'],
  ['Glob', { pattern: 'up/*' }, 'outside'],
  ['Glob', { pattern: '/workspace/sub/*' }, 'inside'],
  ['Glob', { pattern: '*', path: '/' }, 'outside'],
  ['Glob', { pattern: '*', path: ' /etc' }, 'outside'],
  ['Glob', { pattern: '*', path: '~' }, 'outside'],
  ['Glob', { pattern: '*', path: '' }, 'inside'],
  ['Glob', { pattern: '\\/etc/*' }, 'outside'],
  ['Glob', { pattern: '.\\./*' }, 'outside'],
  ['Glob', { pattern: 'app/\\[id\\]/*' }, 'inside'],
  ['Grep', { pattern: 'x', path: '\n/etc\n' }, 'outside'],
  ['Grep', { pattern: 'x', path: '~/.ssh' }, 'outside'],
];

for (const [name, input, place] of calls) {
  test(`${name} ${JSON.stringify(input)} is ${place}`, async () => {
    assert.equal(await placeOfCall(slot, name, input), place);
  });
}

test('a place that cannot be found out is an error, never inside', async () => {
  const broken = view('/workspace', join(base, 'ws', 'x'.repeat(300)));
  await assert.rejects(placeOf(broken, '/workspace/file'));
});

test('a project path is taken only inside a root, by its real path, and never from the service', async () => {
  const root = join(base, 'ws');
  const never = () => false;
  const refused = (error: unknown) => error instanceof SallyportError && error.code === 'path_not_allowed';
  assert.equal(await resolveProject(join(root, 'sub'), [root], never), join(root, 'sub'));
  assert.equal(await resolveProject(join(root, 'up/ws'), [root], never), root);
  await assert.rejects(resolveProject(join(root, 'up'), [root], never), refused);
  await assert.rejects(resolveProject(join(base, 'ws-sibling'), [root], never), refused);
  await assert.rejects(resolveProject(join(root, '..'), [root], never), refused);
  await assert.rejects(resolveProject(join(root, 'file'), [root], never), refused);
  await assert.rejects(resolveProject(join(root, 'missing'), [root], never), refused);
  await assert.rejects(resolveProject('sub', [root], never), refused);
  await assert.rejects(resolveProject(root, [], never), refused);
  await assert.rejects(
    resolveProject(root, [root], () => true),
    refused,
  );
});
