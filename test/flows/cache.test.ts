import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { defaultBounds, queryRequest, streamEvent } from '@sallyport/protocol';
import type { Step } from '@sallyport/simulator';
import { administer, auditLines, makeKey, makeTenant } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { answerOf, callsWith, inBatches, joined, rows, scripted, stream, typesOf, until } from '../support/runs.ts';
import { query, startService, userKey, type TestService } from '../support/service.ts';
import { read } from '../support/workspaces.ts';

const limit = { timeout: 180_000 };
const models = { SALLYPORT_MODELS: 'sallyport-simulator,another-model' };

let service: TestService;
before(async () => {
  service = await startService({ env: models });
});
after(() => service.close());

const newWord = () => `cache-${randomUUID()}`;
/** A request that may be answered again. */
const reading = (word: string, steps: readonly Step[] = [{ text: 'Nothing there.' }], more: object = {}) => ({
  prompt: scripted(steps, word),
  permission_mode: 'readOnly',
  cache: 'auto',
  ...more,
});

/** Sends a query that must be answered, and gives the answer. */
async function answered(body: object, key = userKey): Promise<Record<string, any>> {
  const answer = await query(service, body, { key });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body;
}

/** All that is stored, but for the audit log. */
function stored(): string {
  const tables = rows(service, "select name from sqlite_master where type = 'table' order by name");
  const others = tables.map(({ name }) => String(name)).filter((name) => !/^(audit|sqlite_|kysely)/u.test(name));
  return JSON.stringify(others.map((name) => [name, rows(service, `select * from "${name}"`)]));
}

const spent = ['request_id', 'execution_time', 'tokens_used', 'usage', 'cost_usd', 'cached'] as const;
/** An answer without what it says of its own request. */
const without = (body: Record<string, any>) => ({ ...body, ...Object.fromEntries(spent.map((name) => [name, null])) });
const nothing = { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0 };

test(
  'an answer is given again as it was: nothing runs, nothing is called, nothing is spent or stored',
  limit,
  async () => {
    const word = newWord();
    const files = [{ path: 'a.txt', content: 'The content of a.' }];
    const steps = [{ text: 'I look. ', tools: [read('a.txt')] }, { text: 'It is there, 😀.' }];
    const request = reading(word, steps, { files, metadata: { of: 'the first' } });
    const first = await answered(request);
    assert.deepEqual([first['success'], first['cached'], first['tools_used']], [true, false, ['Read']]);
    const calls = callsWith(service, word).length;
    const before = stored();
    const again = await answered({ ...request, metadata: { of: 'the second' } });
    assert.deepEqual(without(again), without(first));
    assert.notEqual(again['request_id'], first['request_id']);
    assert.deepEqual(
      [again['cached'], again['cost_usd'], again['tokens_used'], again['usage']],
      ['hit', 0, 0, nothing],
    );
    const streamed = await stream(service, request);
    assert.equal(streamed.status, 200);
    assert.deepEqual(typesOf(streamed), ['text_delta', 'tool_start', 'tool_end', 'text_delta', 'result']);
    for (const { id, event } of streamed.events) {
      assert.match(String(id), /^\d+\.\d+$/u);
      assert.ok(streamEvent.safeParse(event).success, JSON.stringify(event));
    }
    assert.equal(joined(streamed), 'I look. It is there, 😀.');
    const result = streamed.events.at(-1)!.event as Record<string, any>;
    assert.deepEqual([result['cached'], result['is_complete'], result['cost_usd']], ['hit', true, 0]);
    assert.equal(result['session_id'], first['session_id']);
    assert.equal(streamed.last, '[DONE]');
    assert.equal(callsWith(service, word).length, calls);
    assert.equal(stored(), before);
    assert.equal(service.sallyport.processes().length, 0);
    const given = async () => (await auditLines(service)).filter(({ action }) => action === 'query.cached');
    await until(async () => (await given()).length >= 2);
    const lines = await given();
    assert.deepEqual(
      lines.map(({ actor, tenant, subject, details }) => [actor, tenant, subject, details.request_id]),
      [again, result].map(({ request_id }) => ['key-1', 'default', first['session_id'], request_id]),
    );
    // The session is the one of the run: it is there, and goes on with what it knows.
    const next = await call(service, 'POST', `conversation/${first['session_id']}/continue`, {
      session_id: first['session_id'],
      message: scripted([{ text: 'On.' }]),
    });
    assert.equal(next.body['success'], true, JSON.stringify(next.body));
    assert.deepEqual(without(await answered(request)), without(first));
  },
);

test('what was streamed is given as a whole, with what the schema asks for', limit, async () => {
  const word = newWord();
  const output_schema = { type: 'object', properties: { answer: { type: 'integer' } }, required: ['answer'] };
  const request = reading(word, [{ structured: { answer: 42 } }], { output_schema });
  const first = await stream(service, request);
  const result = first.events.at(-1)!.event as Record<string, any>;
  assert.deepEqual([result['cached'], result['structured_output']], [false, { answer: 42 }]);
  const again = await answered(request);
  assert.deepEqual([again['cached'], again['structured_output']], ['hit', { answer: 42 }]);
  assert.equal(answerOf(again), joined(first));
});

test('tenants never share an answer, the keys of one do', limit, async () => {
  const other = await makeTenant(service, `cache-${randomUUID().slice(0, 8)}`);
  const second = await makeKey(service, { name: 'cache-second' });
  const word = newWord();
  const files = [{ path: 'a.txt', content: 'The same.' }];
  const request = reading(word, undefined, { files });
  const asks = [userKey, other, userKey, other, second];
  const answers = [];
  for (const key of asks) answers.push(await answered(request, key));
  const [own, others] = [answers[0]?.['session_id'], answers[1]?.['session_id']];
  assert.deepEqual(
    answers.map(({ cached, session_id }) => [cached, session_id]),
    [
      [false, own],
      [false, others],
      ['hit', own],
      ['hit', others],
      ['hit', own],
    ],
  );
  assert.notEqual(own, others);
  assert.equal(callsWith(service, word).length, 2);
});

test('a request that differs in any field that counts is answered on its own', limit, async () => {
  const word = newWord();
  const base = reading(word, undefined, { allowed_tools: ['Read'], max_turns: 4 });
  const { session_id: session } = await answered(base);
  const changes: Record<string, unknown> = {
    prompt: `${base.prompt} `,
    max_turns: 5,
    system_prompt: 'Be brief.',
    project_path: service.root,
    permission_mode: 'strict',
    allowed_tools: ['Read', 'Glob'],
    timeout: 61,
    model: 'another-model',
    effort: 'low',
    output_schema: { type: 'object' },
    files: [{ path: 'a.txt', content: '' }],
    max_budget_usd: 5,
    cache: 'bypass',
    instructions: true,
  };
  const { metadata: _, ...counting } = queryRequest(defaultBounds).shape;
  assert.deepEqual(Object.keys(changes).toSorted(), Object.keys(counting).toSorted());
  await inBatches(2, Object.entries(changes), async ([field, value]) => {
    const { status, body } = await query(service, { ...base, [field]: value });
    // The price of another model may not be known: then nothing is answered, also not with what is stored.
    if (field !== 'max_budget_usd' && field !== 'output_schema') assert.equal(status, 200, JSON.stringify(body));
    assert.notEqual(body['cached'], 'hit', field);
    assert.notEqual(body['session_id'], session, field);
  });
  const unchanged = { ...base, metadata: { label: 'another' }, allowed_tools: ['Read', 'Read'], effort: null };
  const again = await answered(unchanged);
  assert.deepEqual([again['cached'], again['session_id']], ['hit', session]);
  // What may change files or reaches beyond them is never stored.
  for (const more of [
    { permission_mode: 'askForEdits' },
    { allowed_tools: ['Bash'] },
    { project_path: service.root },
  ]) {
    const other = reading(newWord(), undefined, more);
    assert.deepEqual([(await answered(other))['cached'], (await answered(other))['cached']], [false, false]);
  }
});

test('who may not run may not have a stored answer', limit, async () => {
  const word = newWord();
  const unnamed = reading(word);
  const request = { ...unnamed, model: 'sallyport-simulator' };
  await answered(request);
  const narrowed = await makeKey(service, { name: 'cache-models', narrowing: { models: ['another-model'] } });
  const mode = await makeKey(service, { name: 'cache-mode', narrowing: { permission_modes: ['strict'] } });
  const tools = await makeKey(service, { name: 'cache-tools', narrowing: { tools: ['Read'] } });
  const refusals: [string, object, string][] = [
    [narrowed, request, 'model_not_allowed'],
    [mode, request, 'mode_not_allowed'],
    [tools, { ...request, allowed_tools: ['Grep'] }, 'tool_not_allowed'],
  ];
  for (const [key, body, code] of refusals) {
    for (const path of ['/api/claude/query', '/api/claude/stream']) {
      assert.equal((await query(service, body, { key, path })).body['code'], code);
    }
  }
  const viewer = await makeKey(service, { name: 'cache-viewer', role: 'viewer' });
  assert.equal((await query(service, request, { key: viewer })).body['code'], 'forbidden');
  // What it gets by itself is another model, or other tools.
  for (const key of [narrowed, tools]) {
    assert.equal((await answered(unnamed, key))['cached'], false);
  }
  for (const stop of [
    { scope: 'tenant', tenant: 'default' },
    { scope: 'key', tenant: 'default', key: 'key-1' },
  ]) {
    const { stop_id } = await administer(service, 'POST', 'stops', stop);
    const refused = await query(service, request);
    assert.deepEqual([refused.status, refused.body['code']], [403, 'stopped']);
    assert.equal((await query(service, request, { path: '/api/claude/stream' })).body['code'], 'stopped');
    await administer(service, 'DELETE', `stops/${stop_id}`);
  }
  assert.equal((await answered(request))['cached'], 'hit');
  const { session_id } = await answered(request);
  assert.equal((await call(service, 'DELETE', `conversation/${session_id}`)).status, 200);
  assert.equal((await answered(request))['cached'], false);
});
