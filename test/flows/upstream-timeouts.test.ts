import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { callsWith, scripted } from '../support/runs.ts';
import { query, startService, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService({
    env: { SALLYPORT_UPSTREAM_FIRST_BYTE_SECONDS: '1', SALLYPORT_UPSTREAM_SILENCE_SECONDS: '1' },
  });
});
after(() => service.close());

const silences: readonly [string, Step][] = [
  ['never begins to answer', { fault: { kind: 'hang' } }],
  ['falls silent in the middle of an answer', { text: 'a long answer', fault: { kind: 'stall', after_chars: 3 } }],
];

for (const [what, step] of silences) {
  test(`an upstream that ${what} is a 504, after a few tries`, async () => {
    const word = `silent-${step.fault?.kind}-`;
    const { status, body } = await query(service, { prompt: scripted([step], word), timeout: 300 });
    assert.deepEqual([status, body['code'], body['retryable']], [504, 'upstream_timeout', true]);
    assert.ok(callsWith(service, word).length <= 4);
    assert.deepEqual(service.sallyport.processes(), []);
  });
}

test('one that takes its time within the bounds is waited for', async () => {
  const slow: Step = { text: 'slowly but surely', rate: 4, delay_ms: 500 };
  const { body } = await query(service, { prompt: scripted([slow]), timeout: 300 });
  assert.equal(body['messages'].at(-1).content, 'slowly but surely');
});
