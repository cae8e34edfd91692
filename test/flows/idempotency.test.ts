import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { after, before, describe, test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { ask, newWord, turnsOf, type Answer, type Asking } from '../support/idempotency.ts';
import { callsWith, eventsIn, joined, scripted, turnState, until } from '../support/runs.ts';
import { masterKey, startService, userKey, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

/** A request of each kind that starts work; its prompt holds the word, and the model answers with the steps. */
const routes: Readonly<Record<string, (word: string, steps: readonly Step[]) => Promise<Omit<Asking, 'key'>>>> = {
  query: async (word, steps) => ({ path: 'query', body: { prompt: scripted(steps, word) } }),
  stream: async (word, steps) => ({ path: 'stream', body: { prompt: scripted(steps, word) } }),
  start: async (word, steps) => ({
    path: `conversation/start?session_id=${word}`,
    body: { prompt: scripted(steps, word) },
  }),
  continue: async (word, steps) => {
    const id = `c-${word}`;
    const hello = { path: `conversation/start?session_id=${id}`, body: { prompt: scripted([{ text: 'Hello.' }]) } };
    assert.equal((await ask(service, { ...hello, key: newWord() })).status, 200);
    return { path: `conversation/${id}/continue`, body: { session_id: id, message: scripted(steps, word) } };
  },
};

/** What of a stream does not depend on how its text was cut into pieces. */
function told(text: string): unknown {
  const events = eventsIn(text);
  const whole = events.filter(({ event }) => event.type !== 'text_delta');
  return [joined({ events }), ...whole.map(({ event }) => JSON.stringify(event)), text.trimEnd().split('\n').at(-1)];
}

const steps: readonly Step[] = [
  { text: 'I look. ', tools: [{ id: 'toolu_look', name: 'Glob', input: { pattern: '*' } }] },
  { text: 'Nothing there, 😀.' },
];

for (const [name, route] of Object.entries(routes)) {
  describe(`under an Idempotency-Key: ${name}`, () => {
    test('the same request again gives the same answer, and nothing runs again', async () => {
      const word = newWord();
      const asking = { ...(await route(word, steps)), key: word };
      const first = await ask(service, asking);
      assert.deepEqual([first.status, first.replayed], [200, null], first.text);
      const calls = callsWith(service, word).length;
      const again = [await ask(service, asking), await ask(service, asking)];
      for (const answer of again) {
        assert.deepEqual([answer.status, answer.replayed], [200, 'true']);
        if (name === 'stream') assert.deepEqual(told(answer.text), told(first.text));
        else assert.equal(answer.text, first.text);
        assert.equal(answer.text, again[0]?.text);
      }
      assert.equal(callsWith(service, word).length, calls);
      assert.equal(turnsOf(service, word), 1);
    });

    test('of twenty at once one runs, and the others are asked to come back', async () => {
      const word = newWord();
      const asking = { ...(await route(word, [{ text: 'Only once.', delay_ms: 1500 }])), key: word };
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(service, asking)));
      const refused = answers.filter(({ status }) => status !== 200);
      assert.equal(refused.length, 19, answers.map(({ status }) => status).join());
      for (const { status, body, retryAfter } of refused) {
        assert.deepEqual([status, body['code']], [409, 'idempotency_in_progress']);
        assert.ok(Number(retryAfter) >= 1);
      }
      assert.equal(callsWith(service, word).length, 1);
      assert.equal((await ask(service, asking)).replayed, 'true');
      assert.equal(turnsOf(service, word), 1);
    });

    test('a run that failed is told again with its status', async () => {
      const word = newWord();
      const fault: Step['fault'] = { kind: 'status', status: 400 };
      const asking = { ...(await route(word, [{ fault }])), key: word };
      const first = await ask(service, asking);
      const calls = callsWith(service, word).length;
      const again = await ask(service, asking);
      const without = ({ status, body }: Answer) => ({ status, body: { ...body, request_id: '' } });
      assert.deepEqual([first.status, first.body['code']], [502, 'upstream_rejected'], first.text);
      assert.deepEqual(without(again), without(first));
      assert.equal(again.replayed, 'true');
      assert.equal(callsWith(service, word).length, calls);
    });

    test('it goes on when its client leaves', async () => {
      const word = newWord();
      const asking = { ...(await route(word, [{ text: 'Said all the same.', rate: 8 }])), key: word };
      const abort = new AbortController();
      const left = assert.rejects(ask(service, { ...asking, signal: abort.signal }));
      await until(() => callsWith(service, word).length === 1);
      abort.abort();
      await left;
      await until(() => turnState(service, word) === 'completed');
      const answer = await ask(service, asking);
      assert.deepEqual([answer.status, answer.replayed], [200, 'true']);
      assert.match(name === 'stream' ? joined({ events: eventsIn(answer.text) }) : answer.text, /Said all the same\./u);
      assert.equal(callsWith(service, word).length, 1);
    });
  });
}

test('a key stands for one request only, and for each API key for another one', async () => {
  const word = newWord();
  const first = { path: 'query', body: { prompt: scripted(steps, word) }, key: word };
  assert.equal((await ask(service, first)).status, 200);
  const others: Pick<Asking, 'path' | 'body'>[] = [
    { path: 'query', body: { prompt: scripted(steps, word), max_turns: 4 } },
    { path: 'query', body: { prompt: scripted(steps, `${word}!`) } },
    { path: 'conversation/start', body: first.body },
    { path: 'conversation/start?session_id=other', body: first.body },
  ];
  const start = { path: 'conversation/start?session_id=idem-a', body: { prompt: scripted(steps) }, key: newWord() };
  assert.equal((await ask(service, start)).status, 200);
  const message = { session_id: 'idem-a', message: 'x' };
  for (const other of [...others, { path: 'conversation/idem-a/continue', body: message }]) {
    const answer = await ask(service, { ...other, key: word });
    assert.deepEqual([answer.status, answer.body['code']], [422, 'idempotency_key_reused'], other.path);
  }
  for (const path of ['conversation/start', 'conversation/start?session_id=idem-b']) {
    const answer = await ask(service, { ...start, path });
    assert.deepEqual([answer.status, answer.body['code']], [422, 'idempotency_key_reused'], path);
  }
  // Defaults that are written out are the same request.
  assert.equal((await ask(service, { ...first, body: { max_turns: 3, ...first.body } })).replayed, 'true');
  const admin = await ask(service, { ...first, apiKey: masterKey });
  assert.deepEqual([admin.status, admin.replayed], [200, null]);
  assert.equal(turnsOf(service, `${word} `), 2);
});

test('what was streamed is told again as a stream or as a whole', async () => {
  const ways = { start: { accept: 'text/event-stream' }, query: { path: 'stream' } };
  for (const [name, streamed] of Object.entries(ways)) {
    const word = newWord();
    const asking = { ...(await routes[name]!(word, steps)), key: word };
    const first = await ask(service, { ...asking, ...streamed });
    assert.equal(first.status, 200);
    const again = await ask(service, { ...asking, ...streamed });
    assert.equal(again.replayed, 'true');
    assert.deepEqual(told(again.text), told(first.text));
    const whole = await ask(service, asking);
    assert.deepEqual([whole.replayed, whole.body['success']], ['true', true]);
    assert.equal(turnsOf(service, word), 1);
  }
});

test('a key that is no key is refused, and nothing runs', async () => {
  const word = newWord();
  const body = JSON.stringify({ prompt: scripted(steps, word) });
  const send = (keys: string[]) =>
    new Promise<number>((resolve, reject) => {
      const headers = { authorization: `Bearer ${userKey}`, 'content-type': 'application/json' };
      const request = httpRequest(`${service.url}/api/claude/query`, { method: 'POST', headers });
      request.setHeader('idempotency-key', keys);
      request.once('response', (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      request.once('error', reject).end(body);
    });
  for (const keys of [[''], ['x'.repeat(256)], ['a\tb'], ['a b'], ['schlüssel']]) {
    assert.equal(await send(keys), 422, JSON.stringify(keys));
  }
  for (const keys of [
    ['a', 'b'],
    ['a', 'a'],
  ]) {
    assert.equal(await send(keys), 400, JSON.stringify(keys));
  }
  assert.equal(callsWith(service, word).length, 0);
  assert.equal(await send(['x'.repeat(255)]), 200);
});
