import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type Operation } from '@sallyport/protocol';
import { bearer, exchange, listen, secretOf, testApp } from './testing.ts';

const limit = { timeout: 120_000 };
const guarded = Object.values<Operation>(operations(defaultBounds)).filter(({ right }) => right !== 'public');
const pathOf = ({ path }: Operation): string => path.replaceAll(/\{\w+(\.\.\.)?\}/g, 'x');
const escaped = (text: string): string =>
  Buffer.from(text).reduce((all, byte) => `${all}%${byte.toString(16).padStart(2, '0')}`, '');

/** Ways of writing the address of a route. */
const targets: readonly ((path: string) => string)[] = [
  (path) => path,
  (path) => `/${path}`,
  (path) => `//localhost${path}`,
  (path) => path.replace('/claude/', '//claude//'),
  (path) => path.replace('/api/', '/./api/././'),
  (path) => `/health/..${path}`,
  (path) => `/health/%2e%2e${path}`,
  (path) => `/docs/static/../..${path}`,
  (path) => `/docs/static/%2e%2e%2f%2e%2e${path}`,
  (path) => `/health;${path}`,
  (path) => `/health%00${path}`,
  (path) => `/health?${path}`.replace('?', '%3f'),
  (path) => path.replaceAll('/', '%2f').replace('%2f', '/'),
  (path) => path.replaceAll('/', '\\').replace('\\', '/'),
  (path) => path.replace('/api/', '/api%5c'),
  (path) => `/${escaped(path.slice(1))}`,
  (path) => `/${escaped(escaped(path.slice(1)))}`,
  (path) => path.toUpperCase(),
  (path) => `${path};jsessionid=x`,
  (path) => `${path};/health`,
  (path) => `${path}/`,
  (path) => `${path}/..`,
  (path) => `${path}/.`,
  (path) => `${path}%20`,
  (path) => `${path}%00`,
  (path) => `${path}%0d%0a`,
  (path) => `${path}.json`,
  (path) => `${path}#/health`,
  (path) => `${path}?/health`,
  (path) => `${path}?key=${secretOf('admin')}&ticket=x&access_token=${secretOf('admin')}`,
  (path) => `http://localhost${path}`,
  (path) => `HTTP://LocalHost:80${path}`,
  (path) => `http://localhost/health/..${path}`,
  (path) => `http://admin:${secretOf('admin')}@localhost${path}`,
  (path) => `https://localhost${path}`,
  (path) => `http:${path}`,
  (path) => path.slice(1),
  (path) => `*${path}`,
  (path) => path.replace('api', '\u00e0pi'),
  (path) => path.replace('api', 'ap\u0131'),
];

/** Headers with which a proxy or a framework might take a request for another one. */
const overrides = [
  'X-Original-URL: /health',
  'X-Rewrite-URL: /health',
  'X-Forwarded-Prefix: /health',
  'X-Forwarded-For: 127.0.0.1',
  'Forwarded: for=127.0.0.1;host=localhost',
  'X-HTTP-Method-Override: GET',
  'X-Forwarded-User: admin',
  `X-Api-Key: ${secretOf('admin')}`,
  `Proxy-Authorization: Bearer ${secretOf('admin')}`,
  `Cookie: authorization=Bearer%20${secretOf('admin')}`,
];

/** A request whose body is announced and never sent: an answer shows that nobody waited for it. */
function ask(port: number, { body }: Operation, method: string, target: string, headers: readonly string[]) {
  const announced = body ? ['Content-Type: application/json', 'Content-Length: 1000000000'] : [];
  const lines = [`${method} ${target} HTTP/1.1`, ...headers, 'Connection: close', ...announced];
  return exchange(port, Buffer.from(`${lines.join('\r\n')}\r\n\r\n`));
}

const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);

for (const operation of guarded) {
  const { method, path } = operation;
  test(`no way of writing the address of ${method} ${path} is answered without a key`, limit, async () => {
    const { app, engine, log } = await testApp();
    const port = await listen(app);
    for (const target of targets.map((write) => write(pathOf(operation)))) {
      const status = statusOf(await ask(port, operation, method, target, ['Host: localhost']));
      assert.ok(status >= 400 && status < 500, `${target}: ${status}`);
    }
    for (const header of overrides) {
      const status = statusOf(await ask(port, operation, method, pathOf(operation), ['Host: localhost', header]));
      assert.equal(status, 401, header);
    }
    for (const other of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY', 'get', 'Post', 'X']) {
      const status = statusOf(await ask(port, operation, other, pathOf(operation), ['Host: localhost']));
      assert.ok([400, 401, 404, 405].includes(status), `${other}: ${status}`);
    }
    assert.equal(engine.calls.length + engine.asked.length + engine.modelCalls, 0);
    assert.deepEqual(
      log.filter((line) => typeof line['by'] === 'string' || Number(line['level']) >= 50),
      [],
    );
    await app.close();
  });
}

const foreign = [
  '',
  'evil.test',
  'localhost.evil.test',
  'evil.test:80@localhost',
  'localhost@evil.test',
  'localhost:80:80',
  'localhost/',
  'localhost#',
  'localhost, evil.test',
  'localhost evil.test',
  '0.0.0.0',
  '[::]',
  '[::ffff:7f00:1]',
  '0x7f.1',
  '127.1',
  '017700000001',
  '127.0.0.1.nip.io',
  'loc\u00e1lhost',
  '\uff4c\uff4f\uff43alhost',
  'localhost\u3002',
];

test('a key is worth nothing on any route under a foreign host', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const key = `Authorization: ${bearer('admin')['authorization']}`;
  for (const operation of guarded) {
    const path = pathOf(operation);
    for (const host of foreign) {
      const status = statusOf(await ask(port, operation, operation.method, path, [`Host: ${host}`, key]));
      assert.equal(status, 421, `${operation.id}: ${host}`);
    }
    for (const [target, ...hosts] of [
      [path],
      [path, 'localhost', 'evil.test'],
      [path, 'localhost', 'localhost'],
      [`http://evil.test${path}`, 'localhost'],
      [`//evil.test${path}`, 'evil.test'],
      [path, 'evil.test\r\nX-Forwarded-Host: localhost\r\nForwarded: host=localhost'],
    ] as const) {
      const headers = [...hosts.map((host) => `Host: ${host}`), key];
      assert.equal(
        statusOf(await ask(port, operation, operation.method, target, headers)),
        421,
        `${target} ${hosts.join()}`,
      );
    }
  }
  assert.equal(engine.calls.length + engine.asked.length + engine.modelCalls, 0);
  await app.close();
});
