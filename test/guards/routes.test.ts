import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type Operation } from '@sallyport/protocol';
import type { Tickets } from '../../packages/server/src/engine/tickets.ts';
import { mayUse } from '../../packages/server/src/engine/principal.ts';
import { bearer, exchange, listen, roles, secretOf, testApp } from '../../packages/server/src/http/testing.ts';

/** Everything that is answered without a key. A route is added here only with a reason to be public. */
const publicOperations = ['root', 'health', 'livez', 'readyz'];
const publicPages = [
  '/openapi.json',
  '/docs',
  '/docs/',
  '/docs/json',
  '/docs/yaml',
  '/docs/static/*',
  '/docs/static/index.html',
  '/docs/static/swagger-initializer.js',
];

const table = Object.values<Operation>(operations(defaultBounds));
const guarded = table.filter(({ right }) => right !== 'public');
const pathOf = ({ path }: Operation): string => path.replaceAll(/\{\w+(\.\.\.)?\}/g, 'x');
const urlOf = ({ path }: Operation): string => path.replaceAll(/\{\w+\.\.\.\}/g, '*').replaceAll(/\{(\w+)\}/g, ':$1');
const methodsOf = ({ method }: Operation): readonly string[] => (method === 'GET' ? ['GET', 'HEAD'] : [method]);

test('only the listed operations are public', () => {
  assert.deepEqual(
    table.filter(({ right }) => right === 'public').map(({ id }) => id),
    publicOperations,
  );
  assert.ok(guarded.length > 0);
});

test('the app has a route for every operation, the listed pages, and nothing else', async () => {
  const { app } = await testApp();
  const routes = app.appState.routes.list();
  const served = routes.filter(({ operation }) => operation).map(({ method, url }) => `${method} ${url}`);
  const declared = table.flatMap((operation) => methodsOf(operation).map((method) => `${method} ${urlOf(operation)}`));
  assert.deepEqual(served.toSorted(), declared.toSorted());
  const pages = routes.filter(({ operation }) => !operation);
  assert.ok(pages.every(({ documentation, method }) => documentation && ['GET', 'HEAD'].includes(method)));
  assert.deepEqual([...new Set(pages.map(({ url }) => url))].toSorted(), publicPages.toSorted());
  await app.close();
});

/** Every way of having no right to a route: the header lines, and what they are answered with. */
function strangers(operation: Operation): [string, number, string][] {
  const line = (value: string) => `Authorization: ${value}\r\n`;
  const secret = secretOf('admin');
  const lacking = roles.filter((role) => operation.right !== 'public' && !mayUse({ role }, operation.right));
  return [
    ['', 401, 'unauthenticated'],
    [line(''), 401, 'unauthenticated'],
    [line(secret), 401, 'unauthenticated'],
    [line(`Basic ${secret}`), 401, 'unauthenticated'],
    [line(`Bearer ${secret} x`), 401, 'unauthenticated'],
    [`X-Api-Key: ${secret}\r\nCookie: key=${secret}\r\n`, 401, 'unauthenticated'],
    [line(`Bearer ${secret}x`), 401, 'invalid_key'],
    [line('Bearer \u00ff\u00fe'), 401, 'invalid_key'],
    ...lacking.map((role): [string, number, string] => [line(bearer(role)['authorization'] ?? ''), 403, 'forbidden']),
  ];
}

for (const operation of guarded) {
  test(`${operation.method} ${operation.path} refuses every stranger, without reading the body or asking the engine`, async () => {
    const { app, engine } = await testApp();
    const port = await listen(app);
    for (const method of methodsOf(operation)) {
      for (const [header, status, code] of strangers(operation)) {
        // The body is announced and never sent: an answer shows that nobody waited for it.
        const body = operation.body ? 'Content-Type: application/json\r\nContent-Length: 1000000000\r\n' : '';
        const head = `${method} ${pathOf(operation)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n`;
        const answer = await exchange(port, Buffer.from(`${head}${header}${body}\r\n`, 'latin1'));
        assert.equal(Number(answer.split(' ')[1]), status, `${method} ${header}`);
        if (method !== 'HEAD') assert.match(answer, new RegExp(`"code":"${code}"`));
        assert.equal(/\r\nwww-authenticate: Bearer\r\n/i.test(answer), status === 401);
      }
    }
    assert.equal(engine.calls.length + engine.asked.length + engine.modelCalls, 0);
    await app.close();
  });
}

test('a ticket lets nobody in but to the one route that takes it, and is not used up elsewhere', async () => {
  const redeemed: string[] = [];
  const tickets: Tickets = {
    issue: async () => 'ticket-x',
    async redeem(ticket) {
      redeemed.push(ticket);
      return { tenant: 'default', key: 'admin', secretHash: null };
    },
  };
  const { app, engine } = await testApp({ tickets });
  assert.deepEqual(
    table.filter(({ takesTicket }) => takesTicket).map(({ id }) => id),
    ['conversationEvents'],
  );
  for (const operation of guarded.filter(({ takesTicket }) => !takesTicket)) {
    for (const method of methodsOf(operation)) {
      const url = `${pathOf(operation)}?ticket=ticket-x`;
      const answer = await app.inject({ method: method as 'GET', url, headers: { cookie: 'ticket=ticket-x' } });
      assert.equal(answer.statusCode, 401, `${method} ${operation.path}`);
    }
  }
  assert.deepEqual(redeemed, []);
  assert.equal(engine.calls.length + engine.asked.length + engine.modelCalls, 0);
  await app.close();
});

test('each role reaches exactly the operations whose right it has', async () => {
  const { app } = await testApp();
  for (const role of roles) {
    for (const operation of guarded) {
      const body = operation.body ? { payload: {} } : {};
      const request = { method: operation.method, url: pathOf(operation), headers: bearer(role), ...body };
      const { statusCode } = await app.inject(request);
      const right = operation.right === 'public' || mayUse({ role }, operation.right);
      assert.equal(statusCode === 403, !right, `${role} ${operation.id}`);
      assert.notEqual(statusCode, 401);
    }
  }
  await app.close();
});
