import assert from 'node:assert/strict';
import { test } from 'node:test';
import { claudeHealth, models, queryResponse, readiness, serviceHealth } from '@sallyport/protocol';
import { bearer, testApp } from '../testing.ts';

test('the service is named to programs, and a browser is sent to the documentation', async () => {
  const { app } = await testApp();
  const plain = await app.inject({ url: '/' });
  assert.equal(plain.statusCode, 200);
  assert.equal(typeof plain.json<{ message: string }>().message, 'string');
  const browser = await app.inject({
    url: '/',
    headers: { accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8' },
  });
  assert.equal(browser.statusCode, 302);
  assert.equal(browser.headers.location, '/docs');
  await app.close();
});

test('probes answer without work, and readiness names what fails', async () => {
  let ready: () => Promise<string[]> = async () => [];
  const { app, engine } = await testApp({ ready: () => ready() });
  assert.deepEqual(serviceHealth.parse((await app.inject({ url: '/health' })).json()), {
    status: 'healthy',
    version: '1.2.3',
    upstream: 'simulator',
  });
  assert.deepEqual((await app.inject({ url: '/livez' })).json(), { status: 'alive' });
  const probe = async () => {
    const answer = await app.inject({ url: '/readyz' });
    return [answer.statusCode, readiness.parse(answer.json())];
  };
  assert.deepEqual(await probe(), [200, { status: 'ready', failing: [] }]);
  ready = async () => ['store', 'runner'];
  assert.deepEqual(await probe(), [503, { status: 'not_ready', failing: ['store', 'runner'] }]);
  ready = () => Promise.reject(new Error('canary'));
  assert.deepEqual(await probe(), [503, { status: 'not_ready', failing: ['readiness check'] }]);
  assert.equal(engine.calls.length, 0);
  await app.close();
});

test('the health of Claude Code is told as it is known, with 503 when it cannot be used', async () => {
  for (const [status, code] of [
    ['healthy', 200],
    ['degraded', 200],
    ['unhealthy', 503],
  ] as const) {
    const state = { status, claude_available: status !== 'unhealthy', error: null };
    const { app, engine } = await testApp({ claudeHealth: () => state });
    const answer = await app.inject({ url: '/api/claude/health', headers: bearer('viewer') });
    assert.equal(answer.statusCode, code);
    assert.deepEqual(claudeHealth.parse(answer.json()), state);
    assert.equal(engine.calls.length, 0);
    await app.close();
  }
});

test('a query gets its defaults, and answers in the shape of the contract', async () => {
  const { app, engine } = await testApp();
  const answer = await app.inject({
    method: 'POST',
    url: '/api/claude/query',
    headers: { ...bearer('user'), 'x-request-id': 'mine' },
    payload: { prompt: 'x', allowed_tools: ['LS'], model: null },
  });
  assert.equal(answer.statusCode, 200);
  assert.deepEqual(
    queryResponse
      .strict()
      .parse(answer.json())
      .messages.map(({ role }) => role),
    ['user', 'assistant'],
  );
  const [call] = engine.calls;
  assert.equal(call?.context.requestId, 'mine');
  assert.deepEqual(call?.request.allowed_tools, ['Glob']);
  assert.equal(call?.request.permission_mode, 'askForEdits');
  const listed = await app.inject({ url: '/api/claude/models', headers: bearer('viewer') });
  assert.deepEqual(models.parse(listed.json()), { models: ['test-model'], default: 'test-model' });
  await app.close();
});
