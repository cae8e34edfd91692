import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerStream, grant, post, startBroker, startUpstream, until } from './test-support.ts';

const within = { timeout: 20_000 };

test('usage that could not be stored is stored later, with the turn that failed long over', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const stored: string[] = [];
  let isDown = true;
  const record = async ({ id }: { id: string }) => {
    if (isDown) throw new Error('down');
    stored.push(id);
  };
  const { broker, lines } = await startBroker(t, upstream.url, { record });
  const turns = [1, 2].map(() => {
    const pass = broker.issue();
    return { pass, turn: pass.bind(grant()) };
  });
  for (const { pass, turn } of turns) {
    await post(broker, { token: pass.token });
    await assert.rejects(turn.settle(), /down/);
    pass.revoke();
  }
  assert.deepEqual(stored, []);
  isDown = false;
  await until(() => stored.length === 2);
  const ids = turns.flatMap(({ turn }) => turn.calls.map(({ id }) => id));
  assert.deepEqual(stored, ids);
  assert.equal(lines.filter((line) => line.includes('usage could not be stored yet')).length, 2);
});

test('usage that could not be stored is tried a last time when the service ends', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  let tries = 0;
  const record = async () => {
    tries += 1;
    if (tries === 1) throw new Error('down');
  };
  const { broker } = await startBroker(t, upstream.url, { record });
  const pass = broker.issue();
  const turn = pass.bind(grant());
  await post(broker, { token: pass.token });
  await assert.rejects(turn.settle(), /down/);
  await broker.close();
  assert.equal(tries, 2);
});
