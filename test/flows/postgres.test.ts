import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { admin, administer, makeKey, makeTenant } from '../support/admin.ts';
import { call, decide, logAtRest, pendingIn } from '../support/approvals.ts';
import { databasePassword, leftOutWithoutPostgres, startPostgres, type PostgresServer } from '../support/postgres.ts';
import { restartable, type Restartable } from '../support/restart.ts';
import { scripted, until } from '../support/runs.ts';
import { masterKey, query, runProgram, userKey } from '../support/service.ts';

const base = '/api/claude/conversation';
const write = (path: string): Step => ({ tools: [{ name: 'Write', input: { file_path: path, content: 'alpha\n' } }] });

describe('the service on Postgres', { skip: leftOutWithoutPostgres('the service on Postgres') }, () => {
  let postgres: PostgresServer;
  let directory: string;
  let made = 0;
  before(async () => {
    postgres = await startPostgres();
    directory = await mkdtemp(join(tmpdir(), 'sp-prices-'));
    // One dollar for each token of input.
    const dollars = { 'sallyport-simulator': { input: 1_000_000, output: 0, cacheRead: 0, cacheWrite: 0 } };
    await writeFile(join(directory, 'prices.json'), JSON.stringify(dollars));
  });
  after(async () => {
    await postgres.close();
    await rm(directory, { recursive: true });
  });

  /** A service with a database of its own. */
  async function onPostgres(context: TestContext) {
    const name = `flow_${(made += 1)}`;
    const url = await postgres.create(name);
    const service = await restartable(context, {
      env: { DATABASE_URL: url, SALLYPORT_PRICES: join(directory, 'prices.json') },
    });
    return { service, url, rows: <Row extends object>(sql: string) => postgres.ask<Row>(sql, name) };
  }

  /** Runs a command with the settings of a service, in another data directory if need be, and gives its end. */
  async function command(service: Restartable, url: string, args: readonly string[], dataDir = service.dataDir) {
    const env = {
      DATABASE_URL: url,
      SALLYPORT_DATA_DIR: dataDir,
      SALLYPORT_PORT: new URL(service.url).port,
      CLAUDE_API_MASTER_KEY: masterKey,
    };
    const run = runProgram(args, env, service.root);
    return { code: await run.exited, said: run.output() };
  }

  test('a query, an approval and a conversation go on in a new process after a kill', async (context) => {
    const { service, rows } = await onPostgres(context);
    const asked = await query(service, { prompt: scripted([{ text: 'From Postgres.' }]) });
    assert.deepEqual([asked.status, asked.body['success']], [200, true], JSON.stringify(asked.body));

    const prompt = scripted([write('/workspace/a.txt'), { text: 'Written.' }]);
    const lost = call(service, 'POST', 'conversation/start?session_id=talk', { prompt }).catch(() => null);
    const approval = await pendingIn(service, 'talk');
    await service.killAndRestart();
    await lost;
    assert.equal((await pendingIn(service, 'talk'))['approval_id'], approval['approval_id']);
    await decide(service, approval, { decision: 'allow' });
    assert.equal((await logAtRest(service, 'talk')).at(-1)?.['stop_reason'], 'end_turn');

    await service.killAndRestart();
    const message = scripted([
      { tools: [{ name: 'Read', input: { file_path: '/workspace/a.txt' } }] },
      { text: 'Read.' },
    ]);
    const { body } = await query(service, { session_id: 'talk', message }, { path: `${base}/talk/continue` });
    assert.equal(body['success'], true, JSON.stringify(body));
    assert.match(JSON.stringify(service.simulator.requests.at(-1)?.body), /alpha/u);

    const events = await rows<{ seq: string; type: string }>(
      "select seq, type from events where conversation = 'talk' order by seq",
    );
    assert.deepEqual(
      events.map(({ seq }) => Number(seq)),
      events.map((_, index) => index + 1),
    );
    assert.equal(events.filter(({ type }) => type === 'result').length, 2);
    assert.equal(events.filter(({ type }) => type === 'approval_requested').length, 1);
    assert.deepEqual(await rows('select id from turns where ended_at is null'), []);
    assert.equal(existsSync(join(service.dataDir, 'sallyport.db')), false);
  });

  test('keys, budgets, stops and the audit log are kept in it', async (context) => {
    const { service, url } = await onPostgres(context);
    const dollar = { usage: { input_tokens: 1, output_tokens: 1 } };
    const calls = (count: number) => {
      const list: Step = { tools: [{ name: 'Glob', input: { pattern: '*' } }], ...dollar };
      const steps = [...Array.from({ length: count - 1 }, () => list), { text: 'Done.', ...dollar }];
      return { prompt: scripted(steps), max_turns: 10 };
    };
    const web = await makeTenant(service, 'shop');
    await administer(service, 'PATCH', 'tenants/shop', { budgets: { day: 3 } });
    const short = await makeKey(service, { tenant: 'shop', name: 'short' });
    assert.equal((await query(service, calls(2), { key: web })).body['success'], true);
    await service.killAndRestart();

    const rest = await query(service, calls(5), { key: short });
    assert.deepEqual([rest.body['stop_reason'], rest.body['cost_usd']], ['max_budget', 1], JSON.stringify(rest.body));
    const refused = await query(service, calls(1), { key: web });
    assert.deepEqual([refused.status, refused.body['code']], [402, 'budget_exhausted']);

    assert.equal((await admin(service, 'DELETE', 'tenants/shop/keys/short')).status, 200);
    assert.equal((await query(service, calls(1), { key: short })).status, 401);
    const stop = await administer(service, 'POST', 'stops', {
      scope: 'tenant',
      tenant: 'default',
      reason: 'a \0 within',
    });
    const stopped = await query(service, calls(1), { key: userKey });
    assert.deepEqual([stopped.status, stopped.body['code']], [403, 'stopped']);
    await administer(service, 'DELETE', `stops/${stop['stop_id']}`);
    assert.equal((await query(service, calls(1), { key: userKey })).body['success'], true);

    const verified = await command(service, url, ['audit', 'verify']);
    assert.deepEqual([verified.code, /is whole: \d\d lines/u.test(verified.said)], [0, true], verified.said);
  });

  test('the database is named without its password', async (context) => {
    const { service, url } = await onPostgres(context);
    assert.match(service.program.output(), /^Database: Postgres at .+\/flow_\d+$/mu);
    const doctor = await command(service, url, ['doctor']);
    assert.match(doctor.said, /^ {2}DATABASE_URL = set {2}\(environment\)$/mu);
    assert.match(doctor.said, /^ {2}ok {6}Postgres at .+\/flow_\d+: PostgreSQL \d+/mu);
    const wrong = await command(service, url.replace('/flow_', '/no_'), ['serve'], join(directory, 'other'));
    assert.deepEqual([wrong.code, /database "no_\d+" does not exist/u.test(wrong.said)], [1, true], wrong.said);
    const settings = await administer(service, 'GET', 'settings');
    for (const text of [service.program.output(), doctor.said, wrong.said, JSON.stringify(settings)]) {
      assert.ok(!text.includes(databasePassword), text);
    }
  });

  test('a database that is gone is not_ready, and the service goes on when it is back', async (context) => {
    const { service } = await onPostgres(context);
    const ready = async () => (await fetch(`${service.url}/readyz`)).status;
    assert.equal(await ready(), 200);
    await postgres.stop();
    try {
      const { status, body } = await query(service, { prompt: scripted([{ text: 'Never.' }]) });
      assert.deepEqual([status, body['code']], [503, 'not_ready'], JSON.stringify(body));
      await until(async () => (await ready()) === 503);
      assert.equal((await fetch(`${service.url}/livez`)).status, 200);
    } finally {
      await postgres.start();
    }
    await until(async () => (await ready()) === 200);
    const { body } = await query(service, { prompt: scripted([{ text: 'Back.' }]) });
    assert.equal(body['success'], true, JSON.stringify(body));
    assert.ok(!service.program.output().includes(databasePassword));
  });
});
