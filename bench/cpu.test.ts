import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { cpuBelowMs, cpuMs } from './cpu.ts';

const skip = process.platform === 'linux' ? false : 'there is no /proc here';

test('what a process takes counts for itself, and what its children take for those below it', { skip }, async (t) => {
  const works = 'const since = process.cpuUsage(); while (process.cpuUsage(since).user < 200_000);';
  const program = `
    const child = require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(`${works} process.stdout.write('done'); setInterval(() => {}, 1000)`)}], { stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.on('data', () => process.stdout.write('done'));
    process.on('SIGTERM', () => { child.kill(); process.exit(); });
  `;
  const parent = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => parent.kill());
  await once(parent.stdout, 'data');
  const pid = parent.pid ?? 0;
  assert.ok(cpuBelowMs(pid) >= 190, 'the child has worked');
  // Read before the sum, which only grows; the last ticks of 10 ms may be missing in it.
  const both = cpuBelowMs(pid) + cpuMs(pid);
  assert.ok(cpuBelowMs(process.pid) >= both - 50, 'children of children count');
  assert.ok(cpuMs(pid) > 0);
  parent.kill();
  await once(parent, 'exit');
  assert.deepEqual([cpuMs(pid), cpuBelowMs(pid)], [0, 0], 'who is gone takes nothing');
});
