import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Brain, Step } from '@sallyport/simulator';
import { giveToProjectUser, makeProject } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { play, type Played } from '../support/played.ts';
import { startService, type TestService } from '../support/service.ts';

const modes = ['askForEdits', 'acceptEdits', 'readOnly', 'strict'] as const;
type Mode = (typeof modes)[number];

/** What a call is to the policy. Claude Code itself turns away what is `refused`; `absent` tools do not exist in the run. */
type Kind = 'read' | 'edit' | 'bash' | 'web' | 'outside' | 'sensitive' | 'refused' | 'absent';
type Call = readonly [id: string, kind: Kind, name: string, input: Readonly<Record<string, unknown>>];

const tools = ['Read', 'LS', 'Grep', 'Edit', 'Write', 'NotebookEdit', 'Bash', 'WebFetch'];
const notebook = JSON.stringify({
  cells: [{ cell_type: 'code', id: 'c1', metadata: {}, outputs: [], execution_count: null, source: 'old' }],
  metadata: {},
  nbformat: 4,
  nbformat_minor: 5,
});
const files: Readonly<Record<string, string>> = {
  'a.txt': 'one\n',
  '.env': 'WORD=inside\n',
  'n.ipynb': notebook,
  '.git/config': '[core]\n',
};
const canary = 'canary-outside-5c1e';

/** All calls of a run, batch by batch. `at` is the workspace as Claude sees it, `other` a directory beside it. */
function batches(at: string, other: string, links: boolean): Call[][] {
  const calls: Call[][] = [
    [
      ['read', 'read', 'Read', { file_path: `${at}/a.txt` }],
      ['read-relative', 'read', 'Read', { file_path: '.env' }],
      ['read-notebook', 'read', 'Read', { file_path: `${at}/n.ipynb` }],
      ['read-git', 'read', 'Read', { file_path: `${at}/.git/config` }],
      ['grep', 'read', 'Grep', { pattern: 'one', output_mode: 'content' }],
      ['glob', 'read', 'Glob', { pattern: '**/*.txt' }],
    ],
    [
      ['read-other', 'outside', 'Read', { file_path: `${other}/secret.txt` }],
      ['read-dots', 'outside', 'Read', { file_path: `${at}/../other/secret.txt` }],
      ['read-relative-dots', 'outside', 'Read', { file_path: '../other/secret.txt' }],
      ['read-system', 'outside', 'Read', { file_path: '/etc/passwd' }],
      ['read-sibling', 'outside', 'Read', { file_path: `${at}-sibling/secret.txt` }],
      ['read-process', 'refused', 'Read', { file_path: '/proc/self/environ' }],
      ['glob-space', 'outside', 'Glob', { pattern: '*', path: ` ${other}` }],
      ['glob-tilde', 'outside', 'Glob', { pattern: '**/*', path: '~/..' }],
      ['glob-escape', 'outside', 'Glob', { pattern: `\\${other}/*` }],
      ['grep-space', 'outside', 'Grep', { pattern: 'canary', path: `\u00a0${other}\n` }],
      ['grep-tilde', 'outside', 'Grep', { pattern: '.', path: '~' }],
      ['glob-other', 'outside', 'Glob', { pattern: '*', path: other }],
      ['glob-absolute', 'outside', 'Glob', { pattern: `${other}/*` }],
      ['glob-dots', 'outside', 'Glob', { pattern: '../other/*' }],
      ['glob-climbing', 'outside', 'Glob', { pattern: '*/../../other/*' }],
      ['glob-braces', 'outside', 'Glob', { pattern: `{a,${other}}/*` }],
      ['glob-home', 'outside', 'Glob', { pattern: '{~,a}/**' }],
      ['grep-other', 'outside', 'Grep', { pattern: 'canary', path: other }],
      ['grep-root', 'outside', 'Grep', { pattern: 'canary', path: '/' }],
    ],
    [
      ['edit', 'edit', 'Edit', { file_path: `${at}/a.txt`, old_string: 'one', new_string: 'two' }],
      ['write', 'edit', 'Write', { file_path: `${at}/new/deep.txt`, content: 'new\n' }],
      ['notebook', 'edit', 'NotebookEdit', { notebook_path: `${at}/n.ipynb`, cell_id: 'c1', new_source: 'changed' }],
      ['write-outside', 'outside', 'Write', { file_path: `${other}/made.txt`, content: 'x' }],
      ['write-dots', 'outside', 'Write', { file_path: `${at}/new/../../made.txt`, content: 'x' }],
      ['notebook-outside', 'refused', 'NotebookEdit', { notebook_path: `${other}/n.ipynb`, new_source: 'x' }],
    ],
    [['bash', 'bash', 'Bash', { command: 'echo by bash > bash.txt; ln -s /etc out; ln -s /etc/passwd link.txt; pwd' }]],
    [
      ['write-claude', 'sensitive', 'Write', { file_path: `${at}/.claude/settings.json`, content: '{}' }],
      ['write-hook', 'sensitive', 'Write', { file_path: `${at}/.git/hooks/pre-commit`, content: 'x' }],
      ['write-capital', 'sensitive', 'Write', { file_path: `${at}/.GIT/config`, content: 'x' }],
      ['write-mcp', 'sensitive', 'Write', { file_path: `${at}/.mcp.json`, content: '{}' }],
      ['edit-git', 'sensitive', 'Edit', { file_path: `${at}/.git/config`, old_string: '[core]', new_string: '[x]' }],
      ['web', 'web', 'WebFetch', { url: 'http://127.0.0.1:1/', prompt: 'x' }],
    ],
    [
      ['not-listed', 'absent', 'WebSearch', { query: 'anything' }],
      ['task', 'absent', 'Task', { description: 'x', prompt: 'y', subagent_type: 'general-purpose' }],
      ['agent', 'absent', 'Agent', { description: 'x', prompt: 'y', subagent_type: 'general-purpose' }],
      ['send', 'absent', 'SendMessage', { to: 'x', message: 'y' }],
      ['mcp', 'absent', 'mcp__server__tool', {}],
      ['alias', 'absent', 'LS', { path: at }],
      ['invented', 'absent', 'DeleteEverything', { path: '/' }],
      ['prototype', 'absent', '__proto__', {}],
    ],
  ];
  if (!links) return calls;
  const throughLinks: Call[] = [
    ['write-link', 'outside', 'Write', { file_path: `${at}/out/made.txt`, content: 'x' }],
    ['read-link', 'outside', 'Read', { file_path: `${at}/link.txt` }],
    ['glob-link', 'outside', 'Glob', { pattern: 'out/*' }],
    ['edit-link', 'refused', 'Edit', { file_path: `${at}/link.txt`, old_string: 'c', new_string: 'x' }],
  ];
  return [...calls, throughLinks];
}

const edits = (mode: Mode) => mode === 'acceptEdits' || mode === 'strict';

/** Why a call is denied in a mode; null when it runs, undefined when Claude Code itself turns it away. */
function denial(mode: Mode, kind: Kind): string | null | undefined {
  if (kind === 'absent' || kind === 'refused') return undefined;
  if (kind === 'outside') return 'The path is outside the workspace.';
  if (kind === 'read') return null;
  if (mode === 'readOnly') return 'This run may only read.';
  if (kind === 'sensitive')
    return 'Files that configure programs (.git, .claude and the like) cannot be changed in this run.';
  return mode === 'askForEdits' ? 'The user did not allow this call.' : null;
}

/** Files that hold something, and links, by relative path. */
async function diskOf(directory: string, below = ''): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(join(directory, below), { withFileTypes: true })) {
    const name = join(below, entry.name);
    const path = join(directory, name);
    if (entry.isDirectory()) Object.assign(found, await diskOf(directory, name));
    else found[name] = entry.isSymbolicLink() ? `-> ${await readlink(path)}` : await readFile(path, 'utf8');
  }
  return Object.fromEntries(Object.entries(found).filter(([, content]) => content !== ''));
}

/** Tools of this product's list that the model was offered. Claude Code adds a placeholder of its own. */
function offered({ calls }: Played): string[] {
  const names = calls.flatMap(({ body }) => (body?.tools ?? []).map(({ name }) => name));
  return [...new Set(names)].filter((name) => name !== 'DeferredToolPlaceholder').toSorted();
}

const sorted = (list: readonly string[]) => list.toSorted();

/** What came back for a call, in words; the same words for what must come back. */
function answerTo(played: Played, [id, , name]: Call, why: string | null | undefined): string {
  const { text, isError } = played.returned(id);
  if (!isError) return `${id} ran`;
  if (
    why &&
    text.includes(`${why} `) &&
    text.includes('the call was not made') !== text.includes('The call was not made')
  )
    return `${id} denied: ${why}`;
  if (text.includes(`No such tool available: ${name}`)) return `${id} absent`;
  if (text.startsWith('<tool_use_error>')) return `${id} refused`;
  return why === null && name === 'WebFetch' ? `${id} failed` : `${id}: ${text}`;
}

function expectedAnswer([id, kind]: Call, why: string | null | undefined): string {
  if (why === undefined) return `${id} ${kind}`;
  if (why !== null) return `${id} denied: ${why}`;
  // There is no network: it runs and fails.
  return kind === 'web' ? `${id} failed` : `${id} ran`;
}

function assertAnswers(mode: Mode, calls: readonly Call[], played: Played): void {
  const judged = calls.map((call) => ({ call, why: denial(mode, call[1]) }));
  assert.deepEqual(
    judged.map(({ call, why }) => answerTo(played, call, why)),
    judged.map(({ call, why }) => expectedAnswer(call, why)),
  );
  const denials = judged.flatMap(({ call: [id, , tool], why }) =>
    why ? [JSON.stringify({ tool_use_id: id, tool, reason: why })] : [],
  );
  const told: object[] = played.body['permission_denials'];
  assert.deepEqual(sorted(told.map((item) => JSON.stringify(item))), sorted(denials));
  const ran = judged.flatMap(({ call, why }) => (why === null ? [call[2]] : []));
  assert.deepEqual(sorted(played.body['tools_used']), sorted([...new Set(ran)]));
}

/** The workspace as the mode must leave it. */
function expectedDisk(mode: Mode, given: Readonly<Record<string, string>>, madeLinks: boolean): Record<string, string> {
  if (!edits(mode)) return { ...given };
  const cells = JSON.parse(notebook);
  cells.cells[0].source = 'changed';
  return {
    ...given,
    'a.txt': 'two\n',
    'n.ipynb': JSON.stringify(cells, null, 1),
    'new/deep.txt': 'new\n',
    'bash.txt': 'by bash\n',
    ...(madeLinks && { out: '-> /etc', 'link.txt': '-> /etc/passwd' }),
  };
}

function assertChanges(mode: Mode, body: Played['body'], madeLinks: boolean): void {
  assert.equal(body['changes_truncated'], false);
  if (!edits(mode)) {
    assert.equal(body['changes'], null);
    return assert.deepEqual(body['changed_paths'], []);
  }
  const links = madeLinks ? ['link.txt', 'out'] : [];
  assert.deepEqual(body['changed_paths'], sorted(['a.txt', 'bash.txt', 'n.ipynb', 'new/deep.txt', ...links]));
  assert.match(body['changes'], /^--- a\/a\.txt\n\+\+\+ b\/a\.txt\n@@ -1,1 \+1,1 @@\n-one\n\+two$/mu);
  assert.match(body['changes'], /^--- \/dev\/null\n\+\+\+ b\/new\/deep\.txt\n@@ -0,0 \+1,1 @@\n\+new$/mu);
  assert.match(body['changes'], /^\+ {3}"source": "changed"$/mu);
}

let service: TestService;
/** Beside the workspaces and inside the allowed roots: only the walls of a run keep it out of reach. */
let other: string;

/** A project with links that lead out of it. */
async function projectWithLinks(name: string): Promise<string> {
  const project = await makeProject(service, name, files);
  await symlink(other, join(project, 'out'));
  await symlink(join(other, 'secret.txt'), join(project, 'link.txt'));
  return project;
}

const stepsOf = (calls: readonly (readonly Call[])[]): Step[] =>
  calls.map((batch) => ({ tools: batch.map(([id, , name, input]) => ({ id, name, input })) }));

describe('permission modes', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  before(async () => {
    service = await startService();
    other = join(service.root, 'other');
    for (const directory of [other, join(service.root, 'readOnly-sibling')]) {
      await mkdir(directory);
      await writeFile(join(directory, 'secret.txt'), `${canary}\n`);
      await giveToProjectUser(directory);
    }
    assert.equal(service.sallyport.jailed, true);
  });
  after(() => service.close());

  for (const mode of modes) {
    test(`${mode} in a project: what runs, what is denied, and what is on disk`, async () => {
      const project = await projectWithLinks(mode);
      const outside = await diskOf(other);
      const given = await diskOf(project);
      const calls = batches(project, other, true);
      const request = { project_path: project, permission_mode: mode, allowed_tools: tools };
      const played = await play(service, stepsOf(calls), request);
      assert.equal(played.body['stop_reason'], 'end_turn', JSON.stringify(played.body));
      assertAnswers(mode, calls.flat(), played);
      assert.deepEqual(await diskOf(project), expectedDisk(mode, given, false));
      assertChanges(mode, played.body, false);
      assert.deepEqual(await diskOf(other), outside);
      assert.ok(!(await readdir(service.root)).includes('made.txt'));
      assert.match(played.returned('read-relative').text, /WORD=inside/u);
      assert.doesNotMatch(JSON.stringify(played.calls.map(({ body }) => body)), new RegExp(canary, 'u'));
    });

    test(`${mode} in a slot: what runs, what is denied, and what is on disk`, async () => {
      const calls = batches('/workspace', other, edits(mode));
      const steps = stepsOf(calls);
      let disk: Record<string, string> = {};
      const brain: Brain = async (_request, { call }) => {
        const [jail] = service.sallyport.processes();
        const slot = join(service.sallyport.settings.runDir, 'jails', jail!.id, 'slot');
        if (call === steps.length) disk = await diskOf(slot);
        return steps[call] ?? { text: 'Done.' };
      };
      const given = Object.entries(files).map(([path, content]) => ({ path, content }));
      const played = await play(service, brain, { files: given, permission_mode: mode, allowed_tools: tools });
      assert.equal(played.body['stop_reason'], 'end_turn', JSON.stringify(played.body));
      assertAnswers(mode, calls.flat(), played);
      assert.deepEqual(disk, expectedDisk(mode, files, true));
      assertChanges(mode, played.body, true);
    });
  }

  test('an empty list of tools is no tools, in every mode', async () => {
    const calls: Call[] = [
      ['read', 'absent', 'Read', { file_path: '/workspace/a.txt' }],
      ['write', 'absent', 'Write', { file_path: '/workspace/new.txt', content: 'x' }],
      ['bash', 'absent', 'Bash', { command: 'echo x > bash.txt' }],
      ['task', 'absent', 'Task', { description: 'x', prompt: 'y', subagent_type: 'general-purpose' }],
    ];
    for (const mode of modes) {
      const request = { permission_mode: mode, allowed_tools: [], files: [{ path: 'a.txt', content: canary }] };
      const played = await play(service, stepsOf([calls]), request);
      assert.equal(played.body['stop_reason'], 'end_turn');
      assertAnswers(mode, calls, played);
      assert.deepEqual(offered(played), []);
      assert.deepEqual(played.body['changed_paths'], []);
    }
  });

  test('a tool that is not in the list does not exist, however much its mode would let it do', async () => {
    const calls: Call[] = [
      ['read', 'read', 'Read', { file_path: '/workspace/a.txt' }],
      ['grep', 'absent', 'Grep', { pattern: 'one' }],
      ['edit', 'absent', 'Edit', { file_path: '/workspace/a.txt', old_string: 'one', new_string: 'two' }],
      ['write', 'absent', 'Write', { file_path: '/workspace/new.txt', content: 'x' }],
      ['bash', 'absent', 'Bash', { command: 'echo x > bash.txt' }],
      ['web', 'absent', 'WebFetch', { url: 'http://127.0.0.1:1/', prompt: 'x' }],
    ];
    const given = [{ path: 'a.txt', content: 'one\n' }];
    const request = { permission_mode: 'strict', allowed_tools: ['Read'], files: given };
    const played = await play(service, stepsOf([calls]), request);
    assertAnswers('strict', calls, played);
    assert.deepEqual(offered(played), ['Read']);
    assert.deepEqual(played.body['changed_paths'], []);
  });
});
