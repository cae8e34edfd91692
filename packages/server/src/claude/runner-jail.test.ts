import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { identify } from './registry.ts';
import { never, order, startRunner, TestHost, until } from './runner-support.ts';

const limit = { timeout: 60_000 };
const skip = leftOut('runs in a jail', ['bwrap', 'socat']);
const bash = (command: string) => ({ tools: [{ name: 'Bash', input: { command } }] });

test('a jailed run reads, writes and tells like any other, and leaves nothing', { ...limit, skip }, async (t) => {
  const { runner, jails, transcripts, simulator } = await startRunner(
    t,
    { steps: [{ text: 'I look.', ...bash('cat a.txt; pwd; echo new > b.txt') }, { text: 'done' }] },
    { setting: 'bwrap' },
  );
  assert.equal(runner.jailed, true);
  const host = new TestHost();
  const seen: unknown[] = [];
  host.ended = async (view) => {
    seen.push(view.root, await view.readFile('b.txt'), [...((await view.stamps(10))?.keys() ?? [])].toSorted());
  };
  const asked = order({ files: [{ path: 'a.txt', content: 'canary' }], instructions: true });
  const end = await runner.run(asked, host, never);
  assert.deepEqual([end.reason, host.types], ['end_turn', ['text', 'allowed', 'tool_end', 'text']]);
  assert.deepEqual(seen, ['/workspace', 'new\n', ['a.txt', 'b.txt']]);
  assert.match(JSON.stringify(simulator.requests.at(-1)?.body?.messages), /canary\S*\/workspace/);
  assert.ok(transcripts.kept.has(`acme/${asked.sdkSession}`));
  assert.deepEqual(jails.live(), []);
});

test('a jailed run that is aborted or killed leaves nothing', { ...limit, skip }, async (t) => {
  const { runner, jails } = await startRunner(t, { steps: [bash('sleep 300 & wait')] }, { setting: 'bwrap' });
  for (const way of ['abort', 'kill'] as const) {
    const host = new TestHost();
    const stop = new AbortController();
    const run = runner.run(order(), host, stop.signal);
    await until(() => host.types.includes('allowed'));
    const [live] = jails.live();
    assert.ok(live !== undefined);
    if (way === 'abort') stop.abort();
    else process.kill(live.pid, 'SIGKILL');
    const end = await run;
    assert.deepEqual(
      [end.reason, end.failure?.code],
      way === 'abort' ? ['interrupted', undefined] : ['error', 'agent_crashed'],
    );
    assert.deepEqual(jails.live(), []);
    assert.equal(identify(live.pid), null);
  }
});
