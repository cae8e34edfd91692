import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { applyPatch, parsePatch } from 'diff';
import { call, logAtRest, logOf } from '../support/approvals.ts';
import { makeProject } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { restartable } from '../support/restart.ts';
import { scripted, until } from '../support/runs.ts';
import { startService, type TestService } from '../support/service.ts';
import { bash, edit, next, read, start, steps, unasked, write } from '../support/workspaces.ts';

type Body = Record<string, any>;

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

const diffOf = async (of: { url: string }, id: string) => (await call(of, 'GET', `conversation/${id}/diff`)).body;

/** Files with the patches of a diff put on; null: there is none. */
function patched(files: Readonly<Record<string, string>>, diff: string): Record<string, string | null> {
  const all: Record<string, string | null> = { ...files };
  for (const patch of parsePatch(diff)) {
    const name = (patch.newFileName === '/dev/null' ? patch.oldFileName : patch.newFileName)?.slice(2) ?? '';
    const now = applyPatch(all[name] ?? '', patch);
    assert.ok(now !== false, `the patch of ${name} fits`);
    all[name] = patch.newFileName === '/dev/null' ? null : now;
  }
  return all;
}

const commands = { skip: leftOut('commands in a jail', ['bwrap', 'socat']) };

describe('what a conversation changed', () => {
  test('is told over all its turns, against how it found the files', async () => {
    const files = { 'old.txt': 'one\ntwo\nthree\n', 'same.txt': 'same\n', 'odd "nämé"\t$&.txt': 'odd\n' };
    const project_path = await makeProject(service, 'diff-turns', files);
    const odd = 'odd "nämé"\t$&.txt';
    await start(
      service,
      'diff-turns',
      steps(write('new/made.txt', 'made\n'), read('old.txt'), edit('old.txt', 'one', 'ONE')),
      {
        project_path,
      },
    );
    const first = await diffOf(service, 'diff-turns');
    assert.deepEqual([first['changed_paths'], first['changes_truncated']], [['new/made.txt', 'old.txt'], false]);
    await next(
      service,
      'diff-turns',
      steps(read('old.txt'), edit('old.txt', 'two', 'TWO'), edit('old.txt', 'ONE', 'Eins')),
    );
    await next(
      service,
      'diff-turns',
      steps(read('same.txt'), edit('same.txt', 'same', 'other'), edit('same.txt', 'other', 'same')),
    );
    await next(service, 'diff-turns', steps(read(odd), edit(odd, 'odd', 'even $&')));
    const { changes, changed_paths: paths, changes_truncated: truncated } = await diffOf(service, 'diff-turns');
    assert.deepEqual([paths, truncated], [['new/made.txt', odd, 'old.txt'], false]);
    assert.deepEqual(patched(files, changes), {
      'old.txt': 'Eins\nTWO\nthree\n',
      'same.txt': 'same\n',
      'new/made.txt': 'made\n',
      [odd]: 'even $&\n',
    });
  });

  test('is named and not whole where commands changed it', commands, async () => {
    const files = { 'gone.txt': 'gone\n', 'kept.txt': 'kept\n', 'edited.txt': 'a\n', 'late.txt': 'first\n' };
    const project_path = await makeProject(service, 'diff-commands', files);
    await start(
      service,
      'diff-commands',
      steps(write('made.txt', 'made\n'), read('edited.txt'), edit('edited.txt', 'a', 'b')),
      {
        project_path,
      },
    );
    // What an edit tool named before is known whatever changes it: it is told as it is now.
    await next(
      service,
      'diff-commands',
      steps(bash('rm gone.txt made.txt; echo c >> edited.txt; sed -i s/first/by-command/ late.txt')),
    );
    const told = await diffOf(service, 'diff-commands');
    assert.deepEqual(told['changed_paths'], ['edited.txt', 'gone.txt', 'late.txt']);
    assert.equal(told['changes_truncated'], true);
    assert.deepEqual(patched(files, told['changes']), { ...files, 'edited.txt': 'b\nc\n' });
    // An edit that comes after a command cannot tell what the command did.
    await next(service, 'diff-commands', steps(read('late.txt'), edit('late.txt', 'by-command', 'by-edit')));
    const later = await diffOf(service, 'diff-commands');
    assert.deepEqual(later['changed_paths'], ['edited.txt', 'gone.txt', 'late.txt']);
    assert.equal(later['changes_truncated'], true);
  });

  test('is whole where a command changed only what an edit tool knew', commands, async () => {
    const files = { 'a.txt': 'a\n' };
    const project_path = await makeProject(service, 'diff-known', files);
    await start(service, 'diff-known', steps(read('a.txt'), edit('a.txt', 'a', 'b'), bash('echo c >> a.txt')), {
      project_path,
    });
    await next(service, 'diff-known', steps(bash('echo d >> a.txt')));
    const { changes, changed_paths: paths, changes_truncated: truncated } = await diffOf(service, 'diff-known');
    assert.deepEqual([paths, truncated], [['a.txt'], false]);
    assert.deepEqual(patched(files, changes), { 'a.txt': 'b\nc\nd\n' });
  });

  test('is not said to be whole where in one turn a command came before the edit', commands, async () => {
    const project_path = await makeProject(service, 'diff-before', { 'a.txt': 'a\n', 'b.txt': 'b\n' });
    const turn = steps(bash('echo x >> a.txt'), read('a.txt'), edit('a.txt', 'a', 'A'));
    await start(service, 'diff-before', turn, { project_path });
    assert.equal((await diffOf(service, 'diff-before'))['changes_truncated'], true);
    await start(service, 'diff-before-2', steps(bash('true'), read('b.txt'), edit('b.txt', 'b', 'B')), {
      project_path,
    });
    const other = await diffOf(service, 'diff-before-2');
    assert.deepEqual([other['changed_paths'], other['changes_truncated']], [['b.txt'], false]);
  });

  test('is known after the service was killed in the turn', async (context) => {
    const killed = await restartable(context);
    const files = { 'old.txt': 'old\n' };
    const project_path = await makeProject(killed, 'killed', files);
    const slow: Step = { text: 'word '.repeat(20), rate: 20 };
    const tools = [write('new.txt', 'new\n'), read('old.txt'), edit('old.txt', 'old', 'edited')];
    for (const [id, where] of Object.entries({ project: { project_path }, slot: {} })) {
      const lost = assert.rejects(
        call(killed, 'POST', `conversation/start?session_id=${id}`, {
          prompt: scripted([...(id === 'slot' ? tools.slice(0, 1) : tools).map((tool) => ({ tools: [tool] })), slow]),
          ...unasked,
          ...where,
        }),
      );
      await until(async () => {
        const log = await logOf(killed, id).catch(() => []);
        return log.at(-1)?.['type'] === 'text_delta';
      });
      await killed.killAndRestart();
      await lost;
      await logAtRest(killed, id);
    }
    const told = await diffOf(killed, 'project');
    assert.deepEqual([told['changed_paths'], told['changes_truncated']], [['new.txt', 'old.txt'], true]);
    assert.deepEqual(patched(files, told['changes']), { 'new.txt': 'new\n', 'old.txt': 'edited\n' });
    await next(killed, 'project', steps(write('again.txt', 'again\n')));
    assert.deepEqual((await diffOf(killed, 'project'))['changed_paths'], ['again.txt', 'new.txt', 'old.txt']);
    // Whatever is left of a slot whose server was killed, the diff says the same.
    const left = (await call(killed, 'GET', 'conversation/slot/files')).body['items'] as Body[];
    assert.deepEqual(
      (await diffOf(killed, 'slot'))['changed_paths'],
      left.map(({ path }) => path),
    );
  });
});
