import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bearer, exchange, listen, roles, testApp } from './testing.ts';

const runs = { numRuns: 300 };
const limit = { timeout: 60_000 };

/** Bodies near to good ones: the fields of a query with values of any kind, and fields nobody knows. */
const nearQuery = fc.dictionary(
  fc.constantFrom(
    'prompt',
    'max_turns',
    'system_prompt',
    'project_path',
    'permission_mode',
    'allowed_tools',
    'timeout',
    'model',
    'effort',
    'output_schema',
    'files',
    'max_budget_usd',
    'cache',
    'metadata',
    '__proto__',
    'constructor',
    'x',
  ),
  fc.oneof(
    fc.string(),
    fc.integer(),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.jsonValue(),
    fc.array(fc.record({ path: fc.string(), content: fc.string() })),
  ),
);

const bodies = fc.oneof(
  fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
  fc.json().map((text) => Buffer.from(text)),
  nearQuery.map((body) => Buffer.from(JSON.stringify(body))),
  fc.tuple(nearQuery, fc.nat()).map(([body, cut]) => Buffer.from(JSON.stringify(body)).subarray(0, cut)),
);

test('no body makes the service fail', limit, async () => {
  const { app, engine } = await testApp();
  await fc.assert(
    fc.asyncProperty(bodies, fc.constantFrom('query', 'stream'), async (payload, route) => {
      const before = engine.calls.length;
      const headers = { ...bearer('user'), 'content-type': 'application/json' };
      const answer = await app.inject({ method: 'POST', url: `/api/claude/${route}`, headers, payload });
      assert.ok([200, 400, 422].includes(answer.statusCode), String(answer.statusCode));
      assert.equal(engine.calls.length - before, answer.statusCode === 200 ? 1 : 0);
    }),
    runs,
  );
  assert.equal((await app.inject({ url: '/health' })).statusCode, 200);
  await app.close();
});

const wild = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 120 }).map((text) => encodeURIComponent(text.toWellFormed())),
  fc.string({ maxLength: 120 }).map((text) => text.replaceAll(/[^!-~]|#/g, '')),
);
const addresses = fc
  .tuple(
    fc.constantFrom('GET', 'POST', 'DELETE', 'HEAD'),
    wild,
    fc.constantFrom('', '/info', '/messages', '/events', '/interrupt', '/continue', '/fork', '/diff', '/files'),
    fc.array(
      fc.tuple(fc.constantFrom('limit', 'cursor', 'status', 'kind', 'after', 'follow', 'session_id', 'x'), wild),
    ),
  )
  .map(([method, id, rest, query]) => ({
    method: method as 'GET',
    url: `/api/claude/conversation/${id}${rest}?${query.map(([name, value]) => `${name}=${value}`).join('&')}`,
  }));

test('no id and no query of a conversation makes the service fail', limit, async () => {
  const { app, engine } = await testApp();
  await fc.assert(
    fc.asyncProperty(addresses, async (request) => {
      const before = engine.asked.length;
      const { statusCode } = await app.inject({ ...request, headers: bearer('user') });
      assert.ok(statusCode < 500, `${statusCode}`);
      if (statusCode !== 200) assert.equal(engine.asked.length, before);
    }),
    runs,
  );
  assert.equal(engine.open, 0);
  await app.close();
});

const filePaths = fc.oneof(
  wild,
  fc
    .array(fc.oneof(wild, fc.constantFrom('..', '.', '', '%2e%2e', '%2F', '%5c', '%00', 'a')))
    .map((parts) => parts.join('/')),
);

test('no path of a file makes the service fail, or reaches the engine as one that leads elsewhere', limit, async () => {
  const { app, engine } = await testApp();
  await fc.assert(
    fc.asyncProperty(filePaths, async (path) => {
      engine.asked.length = 0;
      const url = `/api/claude/conversation/conv-1/files/${path}`;
      const { statusCode } = await app.inject({ url, headers: bearer('user') });
      assert.ok(statusCode < 500, `${statusCode}`);
      for (const { what, rest } of engine.asked) {
        if (what !== 'file') continue;
        const parts = String(rest[0]).split('/');
        assert.ok(
          parts.every((part) => !['', '.', '..'].includes(part) && !part.includes('\0')),
          String(rest[0]),
        );
      }
    }),
    runs,
  );
  await app.close();
});

const headerNames = fc.constantFrom(
  'authorization',
  'host',
  'origin',
  'accept',
  'content-type',
  'content-encoding',
  'content-length',
  'transfer-encoding',
  'expect',
  'x-request-id',
  'x-forwarded-for',
  'x-forwarded-host',
  'connection',
  'upgrade',
  'cookie',
  'access-control-request-method',
  'access-control-request-headers',
  'accept-version',
  'range',
  'if-none-match',
);
const targets = fc.oneof(
  fc.constantFrom(
    '/',
    '/health',
    '/docs',
    '/docs/static/index.html',
    '/api/claude/query',
    '/api/claude/models',
    '/api/claude/conversation',
    '/api/claude/conversation/%zz/events',
    '/openapi.json',
  ),
  fc.webUrl(),
  fc.string().map((text) => `/${text}`),
);
const methods = fc.constantFrom(
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'OPTIONS',
  'PATCH',
  'TRACE',
  'QUERY',
  'PROPFIND',
);
const values = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string(),
  fc.constantFrom(
    'localhost',
    'Bearer x',
    'application/json',
    'http://localhost:3000',
    '100-continue',
    'chunked',
    '0',
    '5',
  ),
);

test('no request line and no header makes the service fail or serves a stranger', limit, async () => {
  const { app, engine } = await testApp({ limits: { headersMs: 1000, requestMs: 1000, checkMs: 100 } });
  const port = await listen(app);
  const request = fc.tuple(methods, targets, fc.array(fc.tuple(headerNames, values), { maxLength: 6 }));
  await fc.assert(
    fc.asyncProperty(request, async ([method, target, headers]) => {
      const lines = headers.map(([name, value]) => `${name}: ${value.replaceAll(/[\r\n]/g, '')}\r\n`);
      const answer = await exchange(
        port,
        Buffer.from(
          `${method} ${target.replaceAll(/[\s]/g, '')} HTTP/1.1\r\n${lines.join('')}connection: close\r\n\r\n`,
        ),
      );
      assert.doesNotMatch(answer, /^HTTP\/1\.1 5/);
      assert.match(answer, /^HTTP\/1\.1 \d{3} [^]*x-request-id: /i);
    }),
    runs,
  );
  assert.equal(engine.calls.length + engine.asked.length + engine.modelCalls, 0);
  assert.equal((await fetch(`http://127.0.0.1:${port}/health`)).status, 200);
  await app.close();
});

test('only the exact secrets of the ring are ever let in', async () => {
  const { app, engine } = await testApp();
  const secrets: readonly string[] = roles.map((role) => bearer(role)['authorization'] ?? '');
  const near = fc.oneof(
    fc.string(),
    fc
      .constantFrom(...secrets)
      .chain((secret) =>
        fc.tuple(fc.nat(secret.length), fc.string()).map(([cut, tail]) => secret.slice(0, cut) + tail),
      ),
  );
  await fc.assert(
    fc.asyncProperty(
      near.filter((text) => !secrets.includes(text.trim())),
      async (authorization) => {
        const answer = await app.inject({ url: '/api/claude/models', headers: { authorization } });
        assert.equal(answer.statusCode, 401);
      },
    ),
    runs,
  );
  assert.equal(engine.modelCalls, 0);
  await app.close();
});
