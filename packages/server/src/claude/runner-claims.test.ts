import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import type { Jail } from './jail.ts';
import { never, order, startRunner, TestHost, until, type TestRunner } from './runner-support.ts';
import type { SpareShape } from './spares.ts';

const setting = leftOut('runs in a jail', ['bwrap', 'socat']) ? 'none' : 'bwrap';
const tools = ['Read'] as const;
const parked: SpareShape = { kind: 'parked', access: 'rw', tools, model: 'sallyport-simulator' };
const asked = () => order({ prompt: 'only once', profile: { tools, systemPrompt: 'Be brief.' } });

/** From now on jails name another place when `moved` says so, as if it had gone while a spare was parked. */
function moveable({ jails }: TestRunner, moved: () => string | null): void {
  const { open } = jails;
  const told = (jail: Jail): Jail =>
    new Proxy(jail, {
      get(target, name) {
        if (name === 'root' && moved() === target.id) return '/nowhere';
        const value: unknown = Reflect.get(target, name);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  Object.assign(jails, { open: async (profile: Parameters<typeof open>[0]) => told(await open(profile)) });
}

test('a turn whose spare refuses it runs once, in a new process', { timeout: 120_000 }, async (t) => {
  const one = await startRunner(t, { steps: [{ text: 'answer' }] }, { setting, spares: [parked] });
  const spares = () => one.runner.processes().filter(({ state }) => state === 'spare');
  await until(() => spares().length === 1);
  let moved: string | null = null;
  moveable(one, () => moved);
  const [first] = spares();
  // The next spare is one that can be moved.
  await one.runner.run(asked(), new TestHost(), never);
  await until(() => spares().some(({ id }) => id !== first?.id));
  moved = spares()[0]?.id ?? null;
  const host = new TestHost();
  let ranIn: string[] = [];
  host.ended = async () => {
    ranIn = one.runner.processes().flatMap(({ id, state }) => (state === 'running' ? [id] : []));
  };
  const end = await one.runner.run(asked(), host, never);
  assert.deepEqual([end.reason, end.failure, host.text], ['end_turn', null, 'answer']);
  assert.deepEqual([ranIn.length, ranIn.includes(moved ?? ''), end.calls.length], [1, false, 1]);
  assert.equal(one.simulator.requests.length, 2);
  assert.ok(!one.jails.live().some(({ id }) => id === moved));
});
