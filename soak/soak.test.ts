import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { astray, tableOf, type Figures } from './figures.ts';
import { readOptions, UsageError } from './options.ts';
import { Dice } from './random.ts';

test('a short soak gets right answers to all it does, and everything comes back', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sp-soak-test-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const out = join(folder, 'figures.json');
  const program = join(import.meta.dirname, 'main.ts');
  const child = spawn(process.execPath, [program, '--minutes', '0.1', '--seed', '1', '--out', out], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (output += text.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0, output);
  const { played, wrong, isGood } = JSON.parse(await readFile(out, 'utf8'));
  assert.deepEqual([wrong, isGood], [[], true]);
  const names = ['conversation', 'edit', 'files', 'interrupt', 'leaver', 'one-shot', 'socket', 'stream', 'wrong'];
  assert.deepEqual(Object.keys(played).toSorted(), names);
});

const before: Figures = {
  heapMb: 40,
  memoryMb: 150,
  descriptors: 40,
  timers: 1,
  resources: 8,
  processes: 2,
  systemProcesses: 6,
  jails: 2,
  openTurns: 0,
  busyConversations: 0,
  pendingApprovals: 0,
  reservations: 0,
};

test('what is above what it was is told, what is a little above or below is not, but spares that are missing are', () => {
  assert.deepEqual(astray(before, before), []);
  assert.deepEqual(astray(before, { ...before, heapMb: 45, descriptors: 42, timers: 0 }), []);
  assert.deepEqual(astray(before, { ...before, processes: 1 }), ['processes']);
  assert.deepEqual(astray(before, { ...before, heapMb: 80, descriptors: 60, jails: 3, openTurns: 1 }), [
    'heapMb',
    'descriptors',
    'jails',
    'openTurns',
  ]);
  const lines = tableOf(before, { ...before, jails: 3 }).filter((line) => line.includes('NOT RETURNED'));
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /^jails +2 +3 +2 +NOT RETURNED$/u);
});

test('dice fall the same way for the same seed', () => {
  const fall = (seed: number) => {
    const dice = new Dice(seed, 'name');
    return Array.from({ length: 100 }, () => dice.between(1, 6));
  };
  assert.deepEqual(fall(3), fall(3));
  assert.notDeepEqual(fall(3), fall(4));
  assert.deepEqual(
    [...new Set(fall(3))].toSorted((a, b) => a - b),
    [1, 2, 3, 4, 5, 6],
  );
});

test('a command line that cannot be followed is refused', () => {
  assert.deepEqual(readOptions([], 5), { minutes: 10, seed: 5, out: null });
  assert.deepEqual(readOptions(['--minutes', '0.5', '--seed', '7'], 5), { minutes: 0.5, seed: 7, out: null });
  for (const args of [['--minutes', '0'], ['--minutes', 'x'], ['--seed', '-1'], ['--nothing'], ['more']]) {
    assert.throws(() => readOptions(args, 5), UsageError, args.join(' '));
  }
});
