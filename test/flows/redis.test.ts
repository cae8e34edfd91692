import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { ComposeOptions } from '@sallyport/server';
import { administer, makeKey } from '../support/admin.ts';
import { leftOut } from '../support/needs.ts';
import { redisPassword, startRedis, type RedisServer } from '../support/redis.ts';
import { scripted, until } from '../support/runs.ts';
import { query, runProgram, startService, type TestService } from '../support/service.ts';

const limit = { timeout: 180_000 };
type Stores = Parameters<NonNullable<ComposeOptions['stores']>>[0];

/** Requests that a key may make in an hour, and no other limit, so that nothing depends on how fast a test is. */
const hourly = 40;
/** Nothing is late here but what is frozen. */
const patient = { answerMs: 120_000, startMs: 120_000, silenceMs: 120_000 };

const repository = join(import.meta.dirname, '../..');
const guide = await readFile(join(repository, 'docs/guide/redis.md'), 'utf8');
const [, block = ''] = /^```sh\n(.*?)^```/msu.exec(guide) ?? [];

/** Runs what the guide shows, in a directory. */
async function shell(cwd: string, script: string): Promise<string> {
  const main = join(repository, 'packages/server/src/main.ts');
  const here = script.replaceAll('npm run -s sallyport --', `'${process.execPath}' '${main}'`);
  const env = { PATH: process.env['PATH'], SALLYPORT_PORT: '9', SALLYPORT_ISOLATION: 'none' };
  return (await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', here], { cwd, env })).stdout;
}

describe('services with one Redis', { skip: leftOut('services with one Redis', ['redis-server']) }, () => {
  let redis: RedisServer;
  let made = 0;
  before(async () => {
    redis = await startRedis();
  });
  beforeEach(() => redis.ask('FLUSHALL'));
  after(() => redis.close());

  async function aNode(t: TestContext, options: Parameters<typeof startService>[0] = {}): Promise<TestService> {
    const { env, ...rest } = options;
    const service = await startService({
      redisBounds: patient,
      ...rest,
      env: { REDIS_URL: redis.url, SALLYPORT_REQUESTS_PER_HOUR: String(hourly), ...env },
    });
    t.after(async () => {
      await service.close();
      for (const text of service.logs) assert.ok(!text.includes(redisPassword), text);
    });
    return service;
  }

  /** Two nodes that know each other's conversations, as those of one service do. */
  async function twoNodes(t: TestContext): Promise<[TestService, TestService]> {
    let ofFirst: Stores | null = null;
    const one = await aNode(t, { stores: (stores) => (ofFirst = stores) });
    const env = { ANTHROPIC_BASE_URL: one.simulator.url, SALLYPORT_WORKSPACE_ROOTS: one.root };
    const stores = (own: Stores): Stores => ({
      ...own,
      conversations: new Proxy(own.conversations, {
        get(store, name: keyof Stores['conversations']) {
          if (name !== 'get') return store[name].bind(store);
          return async (...args: Parameters<typeof store.get>) =>
            (await store.get(...args)) ?? (await ofFirst?.conversations.get(...args));
        },
      }),
    });
    return [one, await aNode(t, { env, stores })];
  }

  /** A key that every service of the test knows, with its own limits. */
  async function newKey(services: readonly TestService[]) {
    const name = `key-of-test-${(made += 1)}`;
    const secrets = new Map<TestService, string>();
    for (const service of services) secrets.set(service, await makeKey(service, { name }));
    /** Asks one of them so often at once, and gives how many requests were let through; all others were refused. */
    return async (service: TestService, times: number) => {
      const asked = Array.from({ length: times }, async () => {
        const headers = { authorization: `Bearer ${secrets.get(service)}` };
        const response = await fetch(`${service.url}/api/claude/models`, { headers });
        await response.arrayBuffer();
        return response.status;
      });
      const statuses = await Promise.all(asked);
      assert.deepEqual(new Set([...statuses, 200, 429]), new Set([200, 429]));
      return statuses.filter((status) => status === 200).length;
    };
  }

  const watchers = new Map<TestService, string>();

  /** What a service says of itself, to a key without limits, as tests wait for it. */
  async function healthOf(service: TestService) {
    const narrowing = { rates: { requests_per_hour: 0 } };
    const key = watchers.get(service) ?? (await makeKey(service, { name: 'watcher', narrowing }));
    watchers.set(service, key);
    const response = await fetch(`${service.url}/api/claude/health`, { headers: { authorization: `Bearer ${key}` } });
    assert.equal(response.status, 200);
    return ((await response.json()) as Record<string, any>)['status'] as string;
  }

  /** Runs Claude Code on each, which must work, whatever Redis does. */
  async function work(services: readonly TestService[]) {
    const asked = { prompt: scripted([{ text: 'Yes.' }]), permission_mode: 'readOnly', cache: 'auto' };
    for (const service of services) {
      const { status, body } = await query(service, asked);
      assert.deepEqual([status, body['success']], [200, true], JSON.stringify(body));
      assert.equal((await fetch(`${service.url}/readyz`)).status, 200);
    }
  }

  test('the limit of a key is one for both, and exact', limit, async (t) => {
    const services = await Promise.all([aNode(t), aNode(t)]);
    const ask = await newKey(services);
    const counts = await Promise.all(services.map((service) => ask(service, hourly)));
    assert.equal(counts[0]! + counts[1]!, hourly);
    for (const service of services) assert.equal(await ask(service, 1), 0);
  });

  test('what one has answered the other answers from what is stored', limit, async (t) => {
    const [one, other] = await twoNodes(t);
    const asked = { prompt: scripted([{ text: 'Once.' }]), permission_mode: 'readOnly', cache: 'auto' };
    const first = await query(one, asked);
    assert.deepEqual([first.status, first.body['cached']], [200, false], JSON.stringify(first.body));
    const calls = one.simulator.requests.length;
    const second = await query(other, asked);
    assert.deepEqual([second.status, second.body['cached']], [200, 'hit'], JSON.stringify(second.body));
    assert.deepEqual(second.body['messages'], first.body['messages']);
    assert.equal(second.body['session_id'], first.body['session_id']);
    assert.equal(one.simulator.requests.length, calls);
    await redis.ask('FLUSHALL');
    assert.equal((await query(other, asked)).body['cached'], false);
  });

  test('without Redis each works and counts for itself, and together again when it is back', limit, async (t) => {
    const services = await Promise.all([aNode(t), aNode(t)]);
    const [one, other] = services;
    const ask = await newKey(services);
    assert.equal(await ask(one, 10), 10);
    await work(services);
    await redis.kill();
    try {
      await work(services);
      for (const service of services) assert.equal(await healthOf(service), 'degraded');
      assert.equal(await ask(one, hourly), hourly - 10);
      assert.equal(await ask(other, hourly + 5), hourly);
      const late = await aNode(t, { redisBounds: { ...patient, startMs: 1 } });
      await work([late]);
    } finally {
      await redis.start();
    }
    await until(async () => (await healthOf(one)) === 'healthy' && (await healthOf(other)) === 'healthy');
    await work(services);
    const askAnew = await newKey(services);
    const counts = await Promise.all(services.map((service) => askAnew(service, hourly)));
    assert.equal(counts[0]! + counts[1]!, hourly);
    await redis.ask('FLUSHALL');
    await work(services);
    for (const service of services) {
      const lines = service.logs.filter((line) => line.includes('Redis does not answer'));
      assert.equal(lines.length, 2, 'one for each of the two connections');
    }
  });

  test('a Redis that is frozen fails no request, and limits hold', limit, async (t) => {
    const service = await aNode(t, { redisBounds: { answerMs: 100, pingMs: 50, silenceMs: 300 } });
    const ask = await newKey([service]);
    redis.freeze();
    try {
      assert.equal(await ask(service, hourly + 20), hourly);
      await until(async () => (await healthOf(service)) === 'degraded');
      await work([service]);
    } finally {
      redis.thaw();
    }
    await until(async () => (await healthOf(service)) === 'healthy');
    await work([service]);
    const name = `sallyport:0:rate:keys:["default","key-of-test-${made + 1}"]`;
    const askAnew = await newKey([service]);
    await until(async () => {
      assert.ok((await askAnew(service, 1)) >= 0);
      return Number(await redis.ask('LLEN', name)) > 0;
    });
  });

  test('Redis is named and its password is not, by the doctor, to admins and in the log', limit, async (t) => {
    const service = await aNode(t);
    const settings = await administer(service, 'GET', 'settings');
    const line = (settings['items'] as Record<string, string>[]).find(({ variable }) => variable === 'REDIS_URL');
    assert.deepEqual([line?.['value'], line?.['source']], ['set', 'environment']);
    const doctor = async () => {
      const env = { REDIS_URL: redis.url, SALLYPORT_PORT: '9', SALLYPORT_ISOLATION: 'none' };
      const run = runProgram(['doctor'], env, service.root);
      return { code: await run.exited, said: run.output() };
    };
    const sound = await doctor();
    assert.equal(sound.code, 0, sound.said);
    assert.match(sound.said, /^ {2}REDIS_URL = set {2}\(environment\)$/mu);
    assert.match(sound.said, /^ {2}ok {6}127\.0\.0\.1:\d+\/0: Redis \d+\.\d+/mu);
    const shown = await shell(service.root, block.replace(/redis:\/\/[^']+/u, `${redis.url}/0`));
    assert.match(shown, /^Redis\n {2}ok {6}127\.0\.0\.1:\d+\/0: Redis \d/u);
    await redis.kill();
    try {
      const faulty = await doctor();
      assert.equal(faulty.code, 1, faulty.said);
      assert.match(faulty.said, /^ {2}FAILED {2}cannot use Redis at 127\.0\.0\.1:\d+\/0: .*ECONNREFUSED/mu);
      await until(async () => (await healthOf(service)) === 'degraded');
      for (const text of [sound.said, shown, faulty.said, JSON.stringify(settings), ...service.logs])
        assert.ok(!text.includes(redisPassword), text);
    } finally {
      await redis.start();
    }
  });
});
