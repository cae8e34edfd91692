import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { Agent, request, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { test } from 'node:test';
import { makeProject } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { processesWith } from '../support/processes.ts';
import { answerOf, rows, scripted, until } from '../support/runs.ts';
import { fileShortage } from '../support/shortage.ts';
import { startService, unshared, userKey } from '../support/service.ts';

const limit = { timeout: 120_000, skip: leftOut('a service without files', ['prlimit']) };

test(
  'where the system gives no more files a query is overloaded, leaves nothing, and works later',
  limit,
  async (t) => {
    const service = await startService({ env: unshared });
    t.after(() => service.close());
    // A connection that is there already: a new one would need files too.
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    const ask = async (method: string, path: string, body = '') => {
      const headers = { authorization: `Bearer ${userKey}`, 'content-type': 'application/json' };
      const asked = request(`${service.url}${path}`, { agent, method, headers }).end(body);
      const [answer] = (await once(asked, 'response')) as [IncomingMessage];
      return { status: answer.statusCode, headers: answer.headers, body: (await json(answer)) as Record<string, any> };
    };
    const prompt = scripted([{ text: 'Here.' }]);
    const query = async (more: object = {}) =>
      await ask('POST', '/api/claude/query', JSON.stringify({ prompt, timeout: 100, ...more }));
    const project_path = await makeProject(service, 'project', {});
    const { runDir } = service.sallyport.settings;
    const shortage = fileShortage(t);
    assert.equal((await ask('GET', '/livez')).status, 200);

    // None at all, and enough to make a place for a process, but not to start it.
    const cases = [0, 4].flatMap((files) => [{}, { project_path }].map((more) => ({ files, more })));
    for (const { files, more } of cases) {
      shortage.begin(files);
      const { status, headers, body } = await query(more);
      shortage.end();
      assert.deepEqual([status, body['code'], body['retryable']], [503, 'overloaded', true], JSON.stringify(body));
      assert.match(headers['retry-after'] ?? '', /^[1-9]\d*$/u);
      await until(async () => (await readdir(join(runDir, 'jails'))).length === 0);
      // Without a jail there is a watchdog, which stays.
      const left = (await processesWith(runDir)).filter(({ command }) => !command.includes('reaper.ts'));
      assert.deepEqual([service.sallyport.processes(), left], [[], []]);
      assert.deepEqual(rows(service, 'select * from turns'), []);
      assert.equal(service.simulator.requests.length, 0);
    }
    const { status, body } = await query();
    assert.deepEqual([status, answerOf(body)], [200, 'Here.']);
  },
);
