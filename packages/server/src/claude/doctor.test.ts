import assert from 'node:assert/strict';
import { readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { checkIsolation, remedyFor } from './doctor.ts';
import { claudeExecutable } from './executable.ts';
import { freshDirectory } from './jail-support.ts';

test(
  'where jails work every check is good, and the trial leaves nothing',
  { skip: leftOut('jail', ['bwrap', 'socat']) },
  async (t) => {
    const runDir = join(await freshDirectory(t), 'run');
    const checks = await checkIsolation({ runDir, claudeBinary: claudeExecutable() });
    assert.deepEqual(
      checks.filter(({ ok }) => !ok),
      [],
    );
    const named = Object.fromEntries(checks.map(({ name, detail }) => [name, detail]));
    assert.match(named['Claude Code binary']!, /^\d+\.\d+\.\d+ /);
    assert.match(named['bwrap']!, /bubblewrap \d/);
    assert.equal(named['trial start of the sandbox for Bash'], 'works');
    assert.ok(checks.every(({ remedy }) => remedy === ''));
    assert.deepEqual(await readdir(join(runDir, 'jails')), []);
  },
);

test('what is wrong is named with what to do about it', async (t) => {
  const base = await freshDirectory(t);
  const runDir = join(base, 'run');
  await symlink(base, runDir);
  const checks = await checkIsolation({ runDir, claudeBinary: join(base, 'absent') });
  const wrong = new Map(checks.filter(({ ok }) => !ok).map((check) => [check.name, check]));
  assert.match(wrong.get('run directory')!.detail, /not a directory of its own/);
  assert.match(wrong.get('Claude Code binary')!.remedy, /npm ci/);
  if (process.platform === 'linux') assert.match(wrong.get('trial start of a jail')!.detail, /not tried/);
  for (const { remedy } of wrong.values()) assert.notEqual(remedy, '');
});

describe('the usual words of a jail that does not start', () => {
  const cases: [string, boolean, RegExp][] = [
    [
      'bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged user namespaces.',
      false,
      /kernel forbids/,
    ],
    ['bwrap: Creating new namespace failed: Operation not permitted', true, /seccomp/],
    ['bwrap: setting up uid map: Permission denied', false, /kernel forbids/],
    ["bwrap: Can't mount proc on /newroot/proc: Operation not permitted", true, /systempaths/],
    ["bwrap: Can't find source path /root/x: Permission denied", false, /run directory/],
    ['something else', true, /words/],
  ];
  for (const [words, container, remedy] of cases) {
    test(words, () => assert.match(remedyFor(words, container), remedy));
  }
});
