import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Report } from '../../bench/report.ts';

const repository = join(import.meta.dirname, '../..');

test('a benchmark has both sides do the same work, finds every answer right, and writes its figures down', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sp-bench-test-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const out = join(folder, 'figures.json');
  const child = spawn(process.execPath, [join(repository, 'bench/main.ts'), 'M2', '--rounds', '1', '--out', out], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGTERM'));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (output += text.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0, output);
  const { rows, machine } = JSON.parse(await readFile(out, 'utf8')) as Report;
  assert.deepEqual(
    rows.map(({ id, sides }) => [id, sides.map(({ side, right, wrong }) => ({ side, right, wrong }))]),
    [['M2', ['sallyport', 'naive'].map((side) => ({ side, right: 5, wrong: 0 }))]],
    output,
  );
  for (const { median, rounds } of rows[0]!.sides) {
    assert.equal(rounds.length, 1, 'the round that warms up does not count');
    assert.equal(median, rounds[0]!.value);
    assert.ok(Number(median) > 0);
  }
  const [ours, naive] = rows[0]!.sides.map(({ median }) => Number(median));
  assert.equal(rows[0]!.ratio, ours! / naive!);
  assert.equal(machine.node, process.version);
  assert.match(output, /^ +sallyport .* 5 right, 0 wrong /mu);
});
