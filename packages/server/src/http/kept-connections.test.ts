import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request, type IncomingMessage } from 'node:http';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { bearer, listen, testApp } from './testing.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

test('a connection that waits for its next request holds nothing of the last one', { timeout: 30_000 }, async (t) => {
  const { app } = await testApp({ maxOpenPerKey: 100 });
  const port = await listen(app);
  const agent = new Agent({ keepAlive: true, maxSockets: 30, maxFreeSockets: 30 });
  t.after(() => agent.destroy());
  // Parsed it is much larger than it was sent.
  const body = JSON.stringify({ prompt: 'x', unknown: Array.from({ length: 50_000 }, (_, number) => [number]) });
  const post = async () => {
    const headers = { ...bearer('user'), 'content-type': 'application/json' };
    const asked = request({ port, host: '127.0.0.1', path: '/api/claude/query', method: 'POST', agent, headers });
    const [answer] = (await once(asked.end(body), 'response')) as [IncomingMessage];
    answer.resume();
    await once(answer, 'end');
    assert.equal(answer.statusCode, 422);
  };
  const used = () => {
    collect();
    return process.memoryUsage().heapUsed / 1e6;
  };
  await post();
  const before = used();
  await Promise.all(Array.from({ length: 30 }, post));
  await new Promise(setImmediate);
  const kept = Object.values(agent.freeSockets).flat().length;
  assert.ok(kept >= 20, `${kept} connections are kept`);
  const grown = used() - before;
  assert.ok(grown < 15, `${grown} MB more are held`);
  await app.close();
});
