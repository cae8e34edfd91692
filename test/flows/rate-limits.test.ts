import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { masterKey, startService, userKey, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  // What is empty counts as not set.
  const unset = { SALLYPORT_REQUESTS_PER_MINUTE: '', SALLYPORT_REQUESTS_PER_HOUR: '', SALLYPORT_BURST_SIZE: '' };
  service = await startService({ env: unset });
});
after(() => service.close());

const ask = (key: string, path = '/api/claude/models') =>
  fetch(`${service.url}${path}`, { headers: { authorization: `Bearer ${key}` } });

/** Asks until it is told to wait. Gives the answers before that one, and that one. */
async function exhaust(key: string): Promise<{ before: Response[]; refused: Response }> {
  const answers: Response[] = [];
  for (;;) {
    const answer = await ask(key);
    if (answer.status === 429) return { before: answers, refused: answer };
    assert.ok(answers.push(answer) <= 500, 'nothing is refused');
  }
}

test('the service as it is started limits each key', async () => {
  const { before: answers, refused } = await exhaust(userKey);
  assert.ok(answers.length >= 10 && answers.every(({ status }) => status === 200));
  assert.equal(answers[0]?.headers.get('x-ratelimit-remaining-minute'), '29');
  const { detail } = (await refused.json()) as Record<string, any>;
  assert.deepEqual(detail.limits, { requests_per_minute: 30, requests_per_hour: 500, burst_size: 10 });
  assert.equal(refused.headers.get('retry-after'), String(detail.retry_after));
  assert.equal((await ask(masterKey)).status, 200);
  assert.equal((await ask(userKey, '/readyz')).status, 200);
});

test('who guesses keys is slowed down by address, and those with a key are not', async () => {
  const { before: answers } = await exhaust('a-guess-of-a-key');
  assert.ok(answers.length >= 10 && answers.every(({ status }) => status === 401));
  assert.equal((await ask(masterKey)).status, 200);
});
