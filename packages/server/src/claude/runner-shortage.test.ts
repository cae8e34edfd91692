import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { fileShortage } from '../../../../test/support/shortage.ts';
import type { SpareShape } from './spares.ts';
import { never, order, startRunner, TestHost, until } from './runner-support.ts';

const limit = { timeout: 120_000, skip: leftOut('spares without files', ['prlimit']) };
const setting = leftOut('runs in a jail', ['bwrap', 'socat']) ? 'none' : 'bwrap';
const tools = ['Read'] as const;

for (const kind of ['warm', 'parked'] as const) {
  // None at all, and enough to make a place for a process, but not to start it.
  for (const left of [0, 4]) {
    test(`a ${kind} spare that cannot be made with ${left} files left is made later`, limit, async (t) => {
      const shortage = fileShortage(t);
      const shape: SpareShape = { kind, access: 'rw', tools, model: 'sallyport-simulator' };
      const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting, spares: [shape] });
      // Nothing of the spare is there yet: that takes files.
      shortage.begin(left);
      const told = () => one.warnings.filter((line) => line.startsWith('a spare process could not be made'));
      await until(() => told().length > 0);
      shortage.end();
      assert.match(told().join('\n'), /"SallyportError: overloaded: /u);
      const spares = () => one.runner.processes().filter(({ state }) => state === 'spare');
      await until(() => spares().length === 1);
      // Nothing is left of the first one.
      await until(async () => (await readdir(join(one.runDir, 'jails'))).length === 1);
      const [{ pid } = { pid: 0 }] = spares();
      const systemPrompt = kind === 'warm' ? null : 'Be brief.';
      const host = new TestHost();
      let ranIn: number[] = [];
      host.ended = async () => {
        ranIn = one.runner.processes().flatMap((each) => (each.state === 'running' ? [each.pid] : []));
      };
      const end = await one.runner.run(order({ profile: { tools, systemPrompt } }), host, never);
      assert.deepEqual([end.failure, host.text, ranIn, told().length], [null, 'answer', [pid], 1]);
    });
  }
}
