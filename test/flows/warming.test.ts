import assert from 'node:assert/strict';
import { test } from 'node:test';
import { admin } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { scripted, until } from '../support/runs.ts';
import { masterKey, startService, userKey, type TestService } from '../support/service.ts';

const limit = { timeout: 120_000 };

interface Listed {
  readonly pid: number;
  readonly state: string;
  readonly session_id: string | null;
}

const listed = async (service: TestService) =>
  (await admin(service, 'GET', 'processes')).body['items'] as readonly Listed[];

/** Opens the events of a conversation, and leaves when the work is done. */
async function following(service: TestService, id: string, key: string, work: () => Promise<void>): Promise<void> {
  const leave = new AbortController();
  const url = `${service.url}/api/claude/conversation/${id}/events`;
  const response = await fetch(url, { headers: { authorization: `Bearer ${key}` }, signal: leave.signal });
  assert.equal(response.status, 200);
  try {
    await work();
  } finally {
    leave.abort();
  }
}

test('a conversation whose owner opens its events has its process before the next message', limit, async () => {
  // The second conversation takes the only place: the process of the first one is ended.
  const service = await startService({ env: { SALLYPORT_MAX_PROCESSES: '1', SALLYPORT_PROCESS_USES: '1' } });
  try {
    const begun = { prompt: scripted([{ text: 'Begun.' }]), permission_mode: 'readOnly' };
    for (const id of ['opened', 'other']) await call(service, 'POST', `conversation/start?session_id=${id}`, begun);
    assert.deepEqual(
      (await listed(service)).map(({ session_id }) => session_id),
      ['other'],
    );
    // Who does not own it only looks: nothing gives way.
    const before = await listed(service);
    await following(service, 'opened', masterKey, async () => {
      const body = { session_id: 'other', message: scripted([{ text: 'On.' }]) };
      await call(service, 'POST', 'conversation/other/continue', body);
      assert.deepEqual(
        (await listed(service)).map(({ pid }) => pid),
        before.map(({ pid }) => pid),
      );
    });
    await following(service, 'opened', userKey, async () => {
      await until(async () =>
        (await listed(service)).some(({ session_id: id, state }) => id === 'opened' && state === 'idle'),
      );
    });
    const [warm, ...more] = await listed(service);
    assert.deepEqual(more, []);
    const body = { session_id: 'opened', message: scripted([{ text: 'Next.' }]) };
    const { body: answer } = await call(service, 'POST', 'conversation/opened/continue', body);
    assert.equal(answer['success'], true);
    assert.deepEqual(
      (await listed(service)).map(({ pid }) => pid),
      [warm?.pid],
    );
  } finally {
    await service.close();
  }
});

test('a first query that asks for nothing in particular runs in a spare', limit, async () => {
  const service = await startService({ env: { SALLYPORT_SPARES: '1' } });
  try {
    const spares = async () => (await listed(service)).filter(({ state }) => state === 'spare');
    await until(async () => (await spares()).length === 1);
    const [spare] = await spares();
    const { body } = await call(service, 'POST', 'query', { prompt: scripted([{ text: 'Hello.' }]) });
    assert.equal(body['success'], true);
    const cleared = (await listed(service)).filter(({ state }) => state === 'cleared');
    assert.deepEqual(
      cleared.map(({ pid }) => pid),
      [spare?.pid],
    );
  } finally {
    await service.close();
  }
});
