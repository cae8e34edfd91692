import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations } from '@sallyport/protocol';
import type { InjectOptions } from 'fastify';
import { SallyportError } from '../../engine/errors.ts';
import { approval } from '../samples-support.ts';
import { bearer, testApp } from '../testing.ts';

const table = operations(defaultBounds);
const base = '/api/claude/approvals';
const decide = (payload: object): InjectOptions => ({ method: 'POST', url: `${base}/appr-1`, payload });

test('approvals are listed by page and status', async () => {
  const { app, engine } = await testApp();
  engine.pending = [approval, { ...approval, approval_id: 'appr-2' }];
  for (const [query, list] of [
    ['', { limit: 50 }],
    ['?status=pending&limit=2&cursor=1', { limit: 2, status: 'pending', cursor: '1' }],
  ] as const) {
    const answer = await app.inject({ url: `${base}${query}`, headers: bearer('viewer') });
    assert.equal(answer.statusCode, 200, answer.body);
    const body: unknown = answer.json();
    assert.deepEqual(table.listApprovals.response.schema.parse(body), body);
    assert.deepEqual(engine.asked.at(-1)?.rest, [list]);
    assert.equal(engine.asked.at(-1)?.principal.role, 'viewer');
  }
  const first = await app.inject({ url: base, headers: bearer('viewer') });
  assert.equal(first.json<{ next_cursor: string }>().next_cursor, '1');
  await app.close();
});

test('an approval is given as it stands, and decided with what was sent', async () => {
  const { app, engine } = await testApp();
  const read = await app.inject({ url: `${base}/appr-9`, headers: bearer('viewer') });
  assert.deepEqual(read.json(), { ...approval, approval_id: 'appr-9' });
  for (const [sent, decision] of [
    [{ decision: 'deny' }, { decision: 'deny', remember: 'none' }],
    [
      { decision: 'deny', message: 'no', updated_input: null, answers: null },
      { decision: 'deny', message: 'no', remember: 'none', updated_input: null, answers: null },
    ],
    [
      { decision: 'allow', remember: 'conversation', updated_input: { content: 'b' } },
      { decision: 'allow', remember: 'conversation', updated_input: { content: 'b' } },
    ],
    [
      { decision: 'allow', answers: { 'Which?': 'this', 'And?': ['a', 'b'] } },
      { decision: 'allow', remember: 'none', answers: { 'Which?': 'this', 'And?': ['a', 'b'] } },
    ],
  ] as const) {
    const answer = await app.inject({ ...decide(sent), headers: bearer('operator') });
    assert.equal(answer.statusCode, 200, answer.body);
    const body: unknown = answer.json();
    assert.deepEqual(table.decideApproval.response.schema.parse(body), body);
    const asked = engine.asked.at(-1);
    assert.deepEqual([asked?.what, asked?.id, asked?.principal.role], ['decide', 'appr-1', 'operator']);
    assert.deepEqual(asked?.rest, [decision]);
  }
  await app.close();
});

const bad: readonly [object, readonly string[][]][] = [
  [{}, [['body', 'decision']]],
  [{ decision: 'maybe' }, [['body', 'decision']]],
  [{ decision: 'Allow' }, [['body', 'decision']]],
  [{ decision: true }, [['body', 'decision']]],
  [{ decision: 'allow', remember: 'forever' }, [['body', 'remember']]],
  [{ decision: 'allow', always: true }, [['body', 'always']]],
  [{ decision: 'deny', message: 'x'.repeat(2001) }, [['body', 'message']]],
  [{ decision: 'deny', updated_input: {} }, [['body', 'updated_input']]],
  [{ decision: 'deny', answers: {} }, [['body', 'answers']]],
  [
    { decision: 'deny', updated_input: {}, answers: {} },
    [
      ['body', 'updated_input'],
      ['body', 'answers'],
      ['body', 'answers'],
    ],
  ],
  [{ decision: 'allow', updated_input: {}, answers: {} }, [['body', 'answers']]],
  [{ decision: 'allow', updated_input: [] }, [['body', 'updated_input']]],
  [{ decision: 'allow', updated_input: 'x' }, [['body', 'updated_input']]],
  [{ decision: 'allow', answers: { q: 1 } }, [['body', 'answers', 'q']]],
];

test('a decision whose fields are wrong, or do not fit each other, is refused and decides nothing', async () => {
  const { app, engine } = await testApp();
  for (const [payload, locs] of bad) {
    const answer = await app.inject({ ...decide(payload), headers: bearer('user') });
    assert.equal(answer.statusCode, 422, JSON.stringify(payload));
    const { detail } = answer.json<{ detail: { loc: string[] }[] }>();
    assert.deepEqual(
      detail.map(({ loc }) => loc),
      locs,
      JSON.stringify(payload),
    );
  }
  for (const query of ['?status=open', '?limit=0', '?session_id=x', '?status=pending&status=denied']) {
    assert.equal((await app.inject({ url: `${base}${query}`, headers: bearer('user') })).statusCode, 422, query);
  }
  assert.equal((await app.inject({ url: `${base}/${'x'.repeat(101)}`, headers: bearer('user') })).statusCode, 422);
  assert.equal(engine.asked.length, 0);
  await app.close();
});

test('only who may approve decides', async () => {
  const { app, engine } = await testApp();
  assert.equal((await app.inject({ ...decide({ decision: 'allow' }), headers: bearer('viewer') })).statusCode, 403);
  assert.equal(engine.asked.length, 0);
  await app.close();
});

test('what the engine refuses is answered with its own status', async () => {
  const { app, engine } = await testApp();
  for (const [code, request] of [
    ['approval_not_found', decide({ decision: 'deny' })],
    ['already_decided', decide({ decision: 'deny' })],
    ['approval_not_found', { url: `${base}/appr-1` }],
    ['bad_cursor', { url: base }],
  ] as const) {
    const refusal = new SallyportError(code);
    engine.refusal = refusal;
    const answer = await app.inject({ ...request, headers: bearer('user') });
    assert.equal(answer.statusCode, refusal.status);
    assert.equal(answer.json<{ code: string }>().code, code);
  }
  await app.close();
});
