import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type OperationId } from '@sallyport/protocol';
import type { InjectOptions } from 'fastify';
import { SallyportError } from '../../engine/errors.ts';
import { outcomeOf } from '../engine-support.ts';
import { bearer, testApp } from '../testing.ts';

const table = operations(defaultBounds);
const base = '/api/claude/conversation';

const fork = { method: 'POST', url: `${base}/conv-1/fork` } as const;

type Answered = Extract<OperationId, `${string}Conversation${string}` | `conversation${string}`>;

/** One good request for each operation that answers with JSON, and what the engine is asked for it. */
const good: readonly [Answered, InjectOptions, readonly unknown[]][] = [
  ['listConversations', { url: base }, ['list', undefined, { limit: 50, kind: 'conversation' }]],
  [
    'listConversations',
    { url: `${base}?limit=2&cursor=abc&status=ended&kind=query` },
    ['list', undefined, { limit: 2, cursor: 'abc', status: 'ended', kind: 'query' }],
  ],
  ['conversationInfo', { url: `${base}/conv-1/info` }, ['info', 'conv-1']],
  ['conversationInfo', { url: `${base}/a%3Ab%2Fc%20%C3%A9/info` }, ['info', 'a:b/c é']],
  ['conversationMessages', { url: `${base}/conv-1/messages` }, ['messages', 'conv-1']],
  ['interruptConversation', { method: 'POST', url: `${base}/conv-1/interrupt` }, ['interrupt', 'conv-1']],
  ['deleteConversation', { method: 'DELETE', url: `${base}/start` }, ['delete', 'start']],
  ['deleteConversation', { method: 'DELETE', url: `${base}/${'%3A'.repeat(100)}` }, ['delete', ':'.repeat(100)]],
  [
    'continueConversation',
    {
      method: 'POST',
      url: `${base}/conv-1/continue`,
      headers: { 'x-request-id': 'mine' },
      payload: { session_id: 'conv-1', message: 'go on' },
    },
    ['continue', 'conv-1', 'go on', { requestId: 'mine', idempotencyKey: null }],
  ],
  ['conversationDiff', { url: `${base}/conv-1/diff` }, ['diff', 'conv-1']],
  ['forkConversation', { ...fork, payload: {} }, ['fork', 'conv-1', undefined]],
  ['forkConversation', { ...fork, payload: { session_id: null } }, ['fork', 'conv-1', undefined]],
  ['forkConversation', { ...fork, payload: { session_id: 'a.b:c' } }, ['fork', 'conv-1', 'a.b:c']],
];

test('each route asks the engine for what its path, query and body say, and answers in its shape', async () => {
  const { app, engine } = await testApp();
  for (const [id, request, asked] of good) {
    const answer = await app.inject({ ...request, headers: { ...bearer('user'), ...request.headers } });
    assert.equal(answer.statusCode, 200, answer.body);
    const body: unknown = answer.json();
    assert.deepEqual(table[id].response.schema.parse(body), body);
    const last = engine.asked.at(-1);
    assert.deepEqual([last?.what, last?.id, ...(last?.rest ?? [])], asked);
    assert.equal(last?.principal.role, 'user');
  }
  await app.close();
});

test('a conversation starts under the chosen id or none, with the defaults of a query', async () => {
  const { app, engine } = await testApp();
  for (const [query, id] of [
    ['', undefined],
    ['?session_id=my.own:id_-1', 'my.own:id_-1'],
  ] as const) {
    const url = `${base}/start${query}`;
    const headers = { ...bearer('user'), 'x-request-id': 'mine' };
    const answer = await app.inject({ method: 'POST', url, headers, payload: { prompt: 'x' } });
    assert.equal(answer.statusCode, 200);
    const body = answer.json<{ message_count: number; messages: unknown[] }>();
    assert.deepEqual(table.startConversation.response.schema.parse(body), body);
    assert.equal(body.message_count, 2);
    assert.equal(body.messages.length, 2);
    const last = engine.asked.at(-1);
    assert.equal(last?.id, id);
    assert.equal((last?.rest[0] as { permission_mode: string } | undefined)?.permission_mode, 'askForEdits');
    assert.deepEqual(last?.rest[1], { requestId: 'mine', idempotencyKey: null });
  }
  await app.close();
});

test('continuing gives what the turn added and the number of all messages', async () => {
  const { app } = await testApp();
  const payload = { session_id: 'conv-1', message: 'x' };
  const request = { method: 'POST', url: `${base}/conv-1/continue`, headers: bearer('user'), payload } as const;
  const body = (await app.inject(request)).json<Record<string, unknown>>();
  assert.deepEqual(body['new_messages'], outcomeOf().messages);
  assert.equal(body['total_messages'], 7);
  assert.equal('messages' in body, false);
  await app.close();
});

test('what the engine refuses with, or a turn fails with, is answered with its own status', async () => {
  const { app, engine } = await testApp();
  const codes = [
    'conversation_not_found',
    'conversation_busy',
    'conversation_exists',
    'conversation_ended',
    'bad_cursor',
    'gone',
  ] as const;
  for (const code of codes) {
    const refusal = new SallyportError(code);
    engine.refusal = refusal;
    for (const [, request] of good) {
      const answer = await app.inject({ ...request, headers: bearer('user') });
      assert.equal(answer.statusCode, refusal.status);
      assert.equal(answer.json<{ code: string }>().code, code);
    }
  }
  const start = { method: 'POST', url: `${base}/start`, headers: bearer('user'), payload: { prompt: 'x' } } as const;
  engine.refusal = new SallyportError('conversation_exists');
  assert.equal((await app.inject(start)).statusCode, 409);
  engine.refusal = new Error('canary');
  const failed = await app.inject(start);
  assert.equal(failed.statusCode, 500);
  assert.doesNotMatch(failed.body, /canary/);
  engine.refusal = null;
  const error = new SallyportError('upstream_overloaded', { retryAfter: 4 });
  const outcome = outcomeOf({ success: false, stop_reason: 'error', error: error.detail }, error);
  engine.play = { ...engine.play, ended: async () => outcome };
  const overloaded = await app.inject(start);
  assert.equal(overloaded.statusCode, 503);
  assert.equal(overloaded.headers['retry-after'], '4');
  await app.close();
});

const continued = { method: 'POST', payload: { session_id: 'conv-1', message: 'x' } } as const;
const started = { method: 'POST', payload: { prompt: 'x' } } as const;
const bad: readonly [string, InjectOptions, readonly unknown[][], string][] = [
  ['?limit=0', {}, [['query', 'limit']], 'greater_than_equal'],
  ['?limit=201', {}, [['query', 'limit']], 'less_than_equal'],
  ['?limit=1e2', {}, [['query', 'limit']], 'value_error'],
  ['?limit=', {}, [['query', 'limit']], 'value_error'],
  ['?limit=1&limit=2', {}, [['query', 'limit']], 'string_type'],
  ['?status=gone', {}, [['query', 'status']], 'enum'],
  ['?kind=query&kind=query', {}, [['query', 'kind']], 'enum'],
  [
    '?tenant=x&key=y',
    {},
    [
      ['query', 'tenant'],
      ['query', 'key'],
    ],
    'extra_forbidden',
  ],
  ['?__proto__=x', {}, [['query', '__proto__']], 'extra_forbidden'],
  [`?cursor=${'x'.repeat(501)}`, {}, [['query', 'cursor']], 'string_too_long'],
  ['/start?session_id=a&session_id=b', started, [['query', 'session_id']], 'string_type'],
  ['/start?session_id[]=a', started, [['query', 'session_id[]']], 'extra_forbidden'],
  ['/start?session_id=', started, [['query', 'session_id']], 'value_error'],
  ['/start?session_id=a%2Fb', started, [['query', 'session_id']], 'value_error'],
  ['/start?session_id=..', started, [['query', 'session_id']], 'value_error'],
  ['/start?session_id=%zz', started, [['query', 'session_id']], 'value_error'],
  ['/start', { method: 'POST', payload: {} }, [['body', 'prompt']], 'missing'],
  [`/${'x'.repeat(101)}/info`, {}, [['path', 'session_id']], 'string_too_long'],
  [`/${'x'.repeat(5000)}`, { method: 'DELETE' }, [['path', 'session_id']], 'string_too_long'],
  ['//info', {}, [['path', 'session_id']], 'string_too_short'],
  ['/conv-1/fork', { method: 'POST', payload: { session_id: 'a/b' } }, [['body', 'session_id']], 'value_error'],
  ['/conv-1/fork', { method: 'POST', payload: { session_id: '..' } }, [['body', 'session_id']], 'value_error'],
  ['/conv-1/fork', { method: 'POST', payload: { id: 'x' } }, [['body', 'id']], 'extra_forbidden'],
  ['/conv-1/events?follow=no', {}, [['query', 'follow']], 'enum'],
  ['/conv-1/events?after=1.0&after=2.0', {}, [['query', 'after']], 'string_type'],
  ['/conv-1/events?x=1', {}, [['query', 'x']], 'extra_forbidden'],
  ['/conv-1/continue', { ...continued, payload: { session_id: 'conv-1' } }, [['body', 'message']], 'missing'],
  [
    '/conv-1/continue',
    { ...continued, payload: { session_id: 'conv-1', message: '' } },
    [['body', 'message']],
    'string_too_short',
  ],
  [
    '/conv-1/continue',
    { ...continued, payload: { session_id: 'conv-1', message: 'x'.repeat(5001) } },
    [['body', 'message']],
    'string_too_long',
  ],
];

for (const [path, request, locs, type] of bad) {
  test(`${request.method ?? 'GET'} ${path.slice(0, 60)} names what is wrong: ${type}`, async () => {
    const { app, engine } = await testApp();
    const answer = await app.inject({ ...request, url: `${base}${path}`, headers: bearer('user') });
    assert.equal(answer.statusCode, 422, answer.body);
    const { detail } = answer.json<{ detail: { loc: unknown[]; type: string; msg: string }[] }>();
    assert.deepEqual(
      detail.map((issue) => [issue.loc, issue.type]),
      locs.map((loc) => [loc, type]),
    );
    assert.equal(engine.asked.length, 0);
    await app.close();
  });
}

test('a body that names another conversation than the path is refused before anything runs', async () => {
  const { app, engine } = await testApp();
  const answer = await app.inject({ ...continued, url: `${base}/conv-2/continue`, headers: bearer('user') });
  assert.equal(answer.statusCode, 400);
  const body = answer.json<{ code: string; detail: string }>();
  assert.equal(body.code, 'bad_request');
  assert.match(body.detail, /session_id/);
  assert.equal(engine.asked.length, 0);
  await app.close();
});

test('a fork without a JSON object as its body is refused', async () => {
  const { app, engine } = await testApp();
  const none = await app.inject({ ...fork, headers: bearer('user') });
  assert.equal(none.statusCode, 415);
  const json = { ...bearer('user'), 'content-type': 'application/json' };
  assert.equal((await app.inject({ ...fork, headers: json, payload: '' })).statusCode, 400);
  assert.equal((await app.inject({ ...fork, headers: json, payload: '[]' })).statusCode, 422);
  assert.equal(engine.asked.length, 0);
  await app.close();
});

test('a path whose encoding is broken is a refusal of the catalogue, not a failure', async () => {
  const { app, engine } = await testApp();
  for (const id of ['%', '%zz', '%ff', '%c3', '%ed%a0%80', 'a%']) {
    for (const [method, rest] of [
      ['GET', '/info'],
      ['GET', '/events'],
      ['POST', '/continue'],
      ['DELETE', ''],
    ] as const) {
      const answer = await app.inject({ method, url: `${base}/${id}${rest}`, headers: bearer('user') });
      assert.equal(answer.statusCode, 400, `${method} ${id}${rest}`);
      assert.equal(answer.json<{ code: string }>().code, 'bad_request');
      assert.notEqual(answer.headers['x-request-id'], undefined);
    }
  }
  assert.equal(engine.asked.length, 0);
  await app.close();
});
