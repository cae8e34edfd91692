import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { declared } from '../../redteam/attempts/all.ts';
import { leftOut } from '../support/needs.ts';

const repository = join(import.meta.dirname, '../..');
const needs = ['bwrap', 'socat', 'git', 'curl', 'perl'];

test(
  'a hostile model with a hostile repository gets through in no permission mode',
  { skip: leftOut('red team', needs) },
  async (t) => {
    const child = spawn(process.execPath, [join(repository, 'redteam/main.ts')], {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.after(() => child.kill('SIGKILL'));
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    const failures = output.split('\n').filter((line) => /^FAIL |NOT TRIED|GOT THROUGH/u.test(line));
    assert.deepEqual(failures, []);
    const [, jails] = /^(\d+) jails were seen$/mu.exec(output) ?? assert.fail(output);
    assert.ok(Number(jails) >= 4, `${jails} jails`);
    const [, ...counts] =
      /^(\d+) attempts, (\d+) held, (\d+) known not to be stopped\n$/mu.exec(output) ?? assert.fail(output);
    const [made = 0, held = 0, known = 0] = counts.map(Number);
    assert.deepEqual([made, held + known, code], [declared, declared, 0]);
    assert.ok(known <= 4, 'what is known not to be stopped does not grow unseen');
  },
);
