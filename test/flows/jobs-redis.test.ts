import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { jobEnded, jobOf, queueJob } from '../support/jobs.ts';
import { leftOut } from '../support/needs.ts';
import { redisPassword, startRedis, type RedisServer } from '../support/redis.ts';
import { answerOf, callsWith, scripted, until } from '../support/runs.ts';
import { startService, type TestService } from '../support/service.ts';

const limit = { timeout: 120_000 };
const saying = (text: string, words = '') => ({ request: { prompt: scripted([{ text }], words) } });

describe('jobs with Redis', { skip: leftOut('jobs with Redis', ['redis-server']) }, () => {
  let redis: RedisServer;
  let service: TestService;
  before(async () => {
    redis = await startRedis();
    service = await startService({ env: { REDIS_URL: redis.url, SALLYPORT_JOBS_AT_ONCE: '2' } });
  });
  after(async () => {
    await service.close();
    await redis.close();
    for (const line of service.logs) assert.ok(!line.includes(redisPassword), line);
  });

  test('jobs run, each once, and what was told of them holds no more than their ids', limit, async () => {
    const jobs = await Promise.all(
      Array.from({ length: 8 }, (_, index) => queueJob(service, saying('Done.', `with-redis-${index}-`))),
    );
    const [soon, far] = [1_000, 3_600_000].map((ms) => new Date(Date.now() + ms).toISOString());
    const delayed = await queueJob(service, { ...saying('Later.'), run_at: soon });
    const put = await queueJob(service, { ...saying('Much later.', 'secret-words'), run_at: far });
    let keys: string[] = [];
    await until(async () => (keys = await redis.ask<string[]>('KEYS', `*${put['job_id']}*`)).length > 0);
    for (const key of keys) {
      const fields = await redis.ask<string[]>('HGETALL', key);
      assert.doesNotMatch(JSON.stringify(fields), /secret-words/u);
      assert.match(JSON.stringify(fields), new RegExp(put['job_id'], 'u'));
    }
    for (const { job_id: id } of [...jobs, delayed]) assert.equal((await jobEnded(service, id))['status'], 'completed');
    for (let index = 0; index < 8; index += 1) assert.equal(callsWith(service, `with-redis-${index}-`).length, 1);
    assert.ok((await jobOf(service, delayed['job_id']))['started_at'] >= (soon ?? ''));
  });

  test(
    'no job is lost with Redis: those that it told of, and those that are made while it is away',
    limit,
    async () => {
      const far = new Date(Date.now() + 2500).toISOString();
      const told = await queueJob(service, { ...saying('Told.'), run_at: far });
      const long = await queueJob(service, {
        request: { prompt: scripted([{ text: 'Words. '.repeat(40), rate: 40 }], 'redis-away') },
      });
      await until(() => callsWith(service, 'redis-away').length === 1);
      await redis.kill();
      const meanwhile = await queueJob(service, saying('Meanwhile.'));
      assert.equal(answerOf((await jobEnded(service, meanwhile['job_id']))['result']), 'Meanwhile.');
      assert.equal((await jobEnded(service, long['job_id']))['status'], 'completed');
      assert.equal((await jobEnded(service, told['job_id']))['status'], 'completed');
      await redis.start();
      const afterwards = await queueJob(service, saying('Afterwards.'));
      assert.equal((await jobEnded(service, afterwards['job_id']))['status'], 'completed');
    },
  );
});
