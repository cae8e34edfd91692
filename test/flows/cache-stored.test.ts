import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { Brain, Step } from '@sallyport/simulator';
import { administer } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { ask } from '../support/idempotency.ts';
import { answerOf, callsWith, rows, scripted, until } from '../support/runs.ts';
import { query, startService, type TestService } from '../support/service.ts';
import { read } from '../support/workspaces.ts';

const limit = { timeout: 180_000 };

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

/** Sends a query that must be answered, and gives the answer. */
async function answeredBy(of: TestService, body: object): Promise<Record<string, any>> {
  const answer = await query(of, body);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body;
}

const endless: Step = { text: 'word '.repeat(1000), rate: 10 };
/** Runs that do not end well, each with what ends it from outside. */
const unfinished: Record<string, { steps: Step[]; more?: object; end?: (word: string) => Promise<unknown> }> = {
  'its model calls are used up': {
    steps: [{ tools: [read('a.txt')] }, { tools: [read('b.txt')] }],
    more: { max_turns: 1 },
  },
  'the model declined': { steps: Array.from({ length: 4 }, () => ({ text: 'No.', stop_reason: 'refusal' })) },
  'the upstream refused it': { steps: [{ fault: { kind: 'status', status: 400 } }] },
  'its time is over': { steps: [endless], more: { timeout: 10 } },
  'it was interrupted': {
    steps: [endless],
    end: async (word) => {
      const [turn] = rows(
        service,
        'select conversation from turns where state = ? and instr(request, ?)',
        'running',
        word,
      );
      return call(service, 'POST', `conversation/${turn?.['conversation']}/interrupt`);
    },
  },
  'an admin stopped it': {
    steps: [endless],
    end: async () => {
      const { stop_id } = await administer(service, 'POST', 'stops', { scope: 'key', tenant: 'default', key: 'key-1' });
      return administer(service, 'DELETE', `stops/${stop_id}`);
    },
  },
};
for (const [why, { steps, more, end }] of Object.entries(unfinished)) {
  test(`what a run has said is not given again when ${why}`, limit, async () => {
    const word = `cache-${randomUUID()}`;
    const request = { prompt: scripted(steps, word), permission_mode: 'readOnly', cache: 'auto', ...more };
    const sessions = new Set<unknown>();
    for (const time of [1, 2]) {
      const answer = query(service, request);
      if (end) {
        await until(() => callsWith(service, word).length === time);
        await end(word);
      }
      const { body } = await answer;
      assert.ok(body['success'] !== true && !['hit', 'coalesced'].includes(body['cached']), JSON.stringify(body));
      sessions.add(body['session_id'] ?? body['request_id']);
    }
    assert.equal(sessions.size, 2);
    assert.ok(callsWith(service, word).length >= 2);
  });
}

/** A service whose model counts its answers, or says what the test wants. */
async function counting(env: Record<string, string> = {}) {
  let count = 0;
  let next: Step | null = null;
  const brain: Brain = () => next ?? { text: `Answer ${(count += 1)}.` };
  const of = await startService({ script: brain, env });
  const asks = async (cache: string, more: object = {}) => {
    const body = await answeredBy(of, { prompt: 'What?', permission_mode: 'readOnly', cache, ...more });
    return [answerOf(body), body['cached']];
  };
  return { of, asks, say: (step: Step | null) => (next = step) };
}

test('`refresh` replaces what is stored when it ends well, `bypass` neither looks nor stores', limit, async () => {
  const { of, asks, say } = await counting();
  try {
    assert.deepEqual(await asks('auto'), ['Answer 1.', false]);
    assert.deepEqual(await asks('auto'), ['Answer 1.', 'hit']);
    assert.deepEqual(await asks('refresh'), ['Answer 2.', false]);
    assert.deepEqual(await asks('auto'), ['Answer 2.', 'hit']);
    assert.deepEqual(await asks('bypass'), ['Answer 3.', false]);
    assert.deepEqual(await asks('auto'), ['Answer 2.', 'hit']);
    say({ text: 'No.', stop_reason: 'refusal' });
    assert.equal((await asks('refresh'))[1], false);
    assert.deepEqual(await asks('auto'), ['Answer 2.', 'hit']);
    say(null);
    // A key of the client promises a turn of its own.
    const request = { prompt: 'What?', permission_mode: 'readOnly', cache: 'refresh' };
    for (const replayed of [null, 'true']) {
      const { body, ...answer } = await ask(of, { path: 'query', body: request, key: 'a-key' });
      assert.deepEqual([answerOf(body), body['cached'], answer.replayed], ['Answer 4.', false, replayed]);
    }
    assert.deepEqual(await asks('auto'), ['Answer 2.', 'hit']);
  } finally {
    await of.close();
  }
});

test('what is stored is forgotten after its time', limit, async () => {
  const { of, asks } = await counting({ SALLYPORT_CACHE_TTL: '2' });
  try {
    assert.deepEqual(await asks('auto'), ['Answer 1.', false]);
    let last: unknown[] = [];
    await until(async () => (last = await asks('auto'))[1] === false);
    assert.deepEqual(last, ['Answer 2.', false]);
  } finally {
    await of.close();
  }
});

test('without a time nothing is stored or shared', limit, async () => {
  const { of, asks } = await counting({ SALLYPORT_CACHE_TTL: '0' });
  try {
    const answers = [...(await Promise.all([asks('auto'), asks('auto')])), await asks('auto')];
    assert.deepEqual(answers.map(([text, cached]) => `${text} ${cached}`).toSorted(), [
      'Answer 1. false',
      'Answer 2. false',
      'Answer 3. false',
    ]);
  } finally {
    await of.close();
  }
});
