import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHostCheck } from './hosts.ts';
import { exchange, listen, testApp } from './testing.ts';

const statusOf = (answer: string): number => Number(answer.split(' ')[1]);

const allowed = [
  'localhost',
  'localhost:8000',
  'LOCALHOST:1',
  'localhost.',
  '127.0.0.1',
  '127.0.0.1:65535',
  '127.9.8.7',
  '[::1]',
  '[::1]:8000',
  '[0:0:0:0:0:0:0:1]',
  'api.example.com',
  'API.Example.COM:443',
  'api.example.com.',
  '10.1.2.3:8000',
  '[fd00::7]:8000',
];

const refused = [
  '',
  'evil.test',
  'localhost.evil.test',
  'evil.test:8000',
  'api.example.com.evil.test',
  'xapi.example.com',
  'example.com',
  '127.0.0.1.evil.test',
  '127.0.0.256',
  '127.1',
  '2130706433',
  '0.0.0.0',
  '[::]',
  '[::ffff:127.0.0.1]',
  '[::1',
  '::1',
  'localhost:port',
  'localhost:99999',
  'localhost:-1',
  'localhost:80:80',
  'localhost/',
  'localhost/path',
  'localhost#',
  'localhost?',
  'user@localhost',
  'localhost@evil.test',
  'http://localhost',
  'localhost evil.test',
  'localhost,evil.test',
  'localhost..',
  '.localhost',
  'loc%61lhost',
  'localhost\u00e9',
];

const rawOf = (host: string, url = '/') => ({ rawHeaders: ['Host', host], url }) as never;

test('only loopback names, the bound address and the public names are allowed hosts', () => {
  const check = createHostCheck('10.1.2.3', ['api.example.com', 'fd00::7']);
  for (const host of allowed) assert.equal(check.allows(rawOf(host)), true, host);
  for (const host of refused) assert.equal(check.allows(rawOf(host)), false, host);
});

test('a host header must be there exactly once', () => {
  const check = createHostCheck('127.0.0.1', []);
  assert.equal(check.allows({ rawHeaders: [], url: '/' } as never), false);
  const twice = ['Host', 'localhost', 'host', 'localhost'];
  assert.equal(check.allows({ rawHeaders: twice, url: '/' } as never), false);
});

test('the host in an absolute target counts as well as the header', () => {
  const check = createHostCheck('127.0.0.1', []);
  assert.equal(check.allows(rawOf('localhost', 'http://localhost:8000/health')), true);
  for (const url of [
    'http://evil.test/',
    'http://localhost@evil.test/',
    'https://a:b@localhost/',
    'ftp://localhost/',
    '*',
  ]) {
    assert.equal(check.allows(rawOf('localhost', url)), false, url);
  }
});

test('a public name that is no host name stops the start', () => {
  for (const name of ['https://api.example.com', 'a b', '', '*']) {
    assert.throws(() => createHostCheck('127.0.0.1', [name]), /is not a host name/);
  }
});

test('an own origin has the host and port of the request, under http or https', () => {
  const check = createHostCheck('127.0.0.1', ['api.example.com']);
  assert.equal(check.isOwnOrigin('http://localhost:8000', rawOf('localhost:8000')), true);
  assert.equal(check.isOwnOrigin('https://api.example.com', rawOf('API.example.com.')), true);
  assert.equal(check.isOwnOrigin('https://api.example.com', rawOf('api.example.com:443')), true);
  for (const origin of [
    'null',
    '',
    'http://localhost:8001',
    'http://evil.test',
    'file://localhost:8000',
    'https://[',
  ]) {
    assert.equal(check.isOwnOrigin(origin, rawOf('localhost:8000')), false, origin);
  }
});

test('a foreign host is refused on the wire everywhere but on probes', async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const ask = (path: string, host: string) =>
    exchange(port, `GET ${path} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`);
  for (const path of ['/', '/docs', '/docs/json', '/openapi.json', '/api/claude/models', '/nothing']) {
    const answer = await ask(path, 'Host: evil.test\r\n');
    assert.equal(statusOf(answer), 421, path);
    assert.match(answer, /"code":"host_not_allowed"/);
    assert.match(answer, /x-request-id: /);
  }
  assert.equal(statusOf(await ask('/', '')), 421);
  assert.equal(statusOf(await ask('/', 'Host: localhost\r\nHost: evil.test\r\n')), 421);
  assert.equal(statusOf(await ask('http://evil.test/', 'Host: localhost\r\n')), 421);
  assert.equal(statusOf(await ask('http://localhost/', 'Host: localhost\r\n')), 200);
  for (const probe of ['/health', '/livez', '/readyz']) {
    assert.equal(statusOf(await ask(probe, 'Host: evil.test\r\n')), 200);
    assert.equal(statusOf(await ask(probe, '')), 200);
  }
  assert.equal(engine.modelCalls, 0);
  await app.close();
});
