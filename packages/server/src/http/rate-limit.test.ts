import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorBody } from '@sallyport/protocol';
import type { InjectOptions } from 'fastify';
import { SallyportError } from '../engine/errors.ts';
import type { RateLimits } from '../engine/ports.ts';
import type { Principal } from '../engine/principal.ts';
import { addressReader, subjectOfAddress } from './client-address.ts';
import { Rates } from './rate-limit.ts';
import { limitedApp, told } from './rate-support.ts';
import { bearer, exchange, listen, localLimiters, principalOf, secretOf } from './testing.ts';

const limit = { timeout: 20_000 };
const page = 'http://localhost:3000';
const host = 'localhost';

const none = [undefined, undefined, undefined, undefined];

test('a request over the limit is a 429 that a page can read, and waiting it out succeeds', async () => {
  const { app, engine, ask, exhaust, clock } = await limitedApp();
  const query = {
    method: 'POST',
    url: '/api/claude/query',
    payload: { prompt: 'x' },
    headers: { origin: page },
  } as const;
  const refused = await exhaust(query);
  assert.equal(engine.calls.length, 10);
  const { headers } = refused;
  assert.deepEqual(refused.json(), {
    detail: {
      error: 'Rate limit exceeded',
      limits: { requests_per_minute: 30, requests_per_hour: 500, burst_size: 10 },
      retry_after: 10,
    },
    code: 'rate_limited',
    request_id: headers['x-request-id'],
    retryable: true,
  });
  errorBody.parse(refused.json());
  assert.deepEqual(told(refused), ['30', '20', '500', '490']);
  assert.equal(headers['x-ratelimit-reset'], String(Math.ceil((clock.now() + 10_000) / 1000)));
  assert.equal(headers['retry-after'], '10');
  assert.equal(headers['access-control-allow-origin'], page);
  assert.equal(headers['access-control-allow-credentials'], 'true');
  const exposed = String(headers['access-control-expose-headers']).toLowerCase().split(', ');
  for (const name of Object.keys(headers).filter((one) => /^(x-ratelimit-|retry-after)/u.test(one))) {
    assert.ok(exposed.includes(name), name);
  }
  clock.pass(9_999);
  assert.equal((await ask(query)).headers['retry-after'], '1');
  clock.pass(1);
  assert.equal((await ask(query)).statusCode, 200);
  await app.close();
});

test('every counted answer tells what is left, errors and streams included', async () => {
  const { app, engine, ask } = await limitedApp({ burstSize: 0, requestsPerMinute: 100 });
  const post = (payload: object | string, headers = {}): InjectOptions => ({
    method: 'POST',
    url: '/api/claude/query',
    payload,
    headers: { 'content-type': 'application/json', ...headers },
  });
  const counted: [number, InjectOptions][] = [
    [200, {}],
    [200, { method: 'HEAD' }],
    [200, post({ prompt: 'x' })],
    [200, { ...post({ prompt: 'x' }), url: '/api/claude/stream' }],
    [400, post('{')],
    [413, post({ prompt: 'x'.repeat(1_000_001) })],
    [415, post('x', { 'content-type': 'text/plain' })],
    [422, post({})],
  ];
  for (const [index, [status, request]] of counted.entries()) {
    const answer = await ask(request);
    assert.equal(answer.statusCode, status);
    assert.deepEqual(told(answer), ['100', String(99 - index), '500', String(499 - index)], String(status));
    assert.match(String(answer.headers['x-ratelimit-reset']), /^\d{10}$/u);
  }
  const refusals = [new SallyportError('conversation_not_found'), new SallyportError('overloaded'), new Error('boom')];
  for (const [index, refusal] of refusals.entries()) {
    engine.refusal = refusal;
    const answer = await ask(post({ prompt: 'x' }));
    assert.deepEqual([answer.statusCode, told(answer)[1]], [[404, 503, 500][index], String(91 - index)]);
  }
  await app.close();
});

test('probes, pages, preflights, what has no route, strangers and reading a stream cost a key nothing', async () => {
  const { app, ask } = await limitedApp();
  const preflight = { origin: page, 'access-control-request-method': 'POST' };
  const free: [number, InjectOptions][] = [
    [200, { url: '/' }],
    [200, { url: '/health' }],
    [200, { url: '/livez' }],
    [200, { url: '/readyz' }],
    [200, { url: '/docs' }],
    [200, { url: '/openapi.json' }],
    [204, { method: 'OPTIONS', url: '/api/claude/query', headers: preflight }],
    [404, { url: '/api/claude/nothing' }],
    [405, { url: '/api/claude/query' }],
    [403, { headers: { origin: 'http://evil.test' } }],
    [421, { headers: { host: 'evil.test' } }],
    [403, { method: 'POST', url: '/api/claude/query', payload: {}, headers: bearer('viewer') }],
    [200, { url: '/api/claude/conversation/conv-1/events?follow=false' }],
  ];
  for (const [status, request] of free) {
    for (let times = 0; times < 11; times += 1) {
      const answer = await ask(request);
      assert.equal(answer.statusCode, status, JSON.stringify(request.url));
      assert.deepEqual([...told(answer), answer.headers['x-ratelimit-reset']], [...none, undefined]);
    }
  }
  assert.deepEqual(told(await ask()), ['30', '29', '500', '499']);
  assert.deepEqual(told(await ask({ headers: bearer('viewer') })), ['30', '29', '500', '499']);
  await app.close();
});

test('failed authentications count on the address, and a good key from there is not refused', async () => {
  const { app, ask, exhaust, clock } = await limitedApp();
  const wrong = (address: string, headers: Record<string, string> = { authorization: 'Bearer guess' }) => ({
    remoteAddress: address,
    headers,
  });
  const first = await ask(wrong('10.0.0.1'));
  assert.deepEqual([first.statusCode, ...told(first)], [401, '30', '29', '500', '499']);
  const refused = await exhaust(wrong('10.0.0.1'));
  assert.deepEqual([refused.headers['retry-after'], refused.headers['www-authenticate']], ['10', undefined]);
  const bad = [
    { authorization: '' },
    { authorization: 'Basic eDp5' },
    { authorization: 'Bearer other', 'x-forwarded-for': '1.2.3.4', 'x-real-ip': '1.2.3.4', forwarded: 'for=1.2.3.4' },
  ];
  for (const headers of bad) assert.equal((await ask(wrong('10.0.0.1', headers))).statusCode, 429);
  const url = '/api/claude/conversation/conv-1/events';
  const ticket = { url: `${url}?ticket=guess`, remoteAddress: '10.0.0.1', headers: { host } };
  assert.equal((await app.inject(ticket)).statusCode, 429);
  assert.equal((await app.inject({ ...ticket, url })).statusCode, 429);
  assert.equal((await ask(wrong('10.0.0.2'))).statusCode, 401);
  const good = await ask({ remoteAddress: '10.0.0.1' });
  assert.deepEqual([good.statusCode, ...told(good)], [200, '30', '29', '500', '499']);
  assert.equal((await app.inject({ url: '/health', remoteAddress: '10.0.0.1', headers: { host } })).statusCode, 200);
  clock.pass(10_000);
  assert.equal((await ask(wrong('10.0.0.1'))).statusCode, 401);
  await app.close();
});

test('behind a trusted proxy each client has an address of its own, and none can choose it', async () => {
  const { app, ask, exhaust } = await limitedApp({ trustedProxies: ['10.0.0.0/8'] });
  const from = (forwarded: string): InjectOptions => ({
    remoteAddress: '10.0.0.1',
    headers: { authorization: 'Bearer guess', 'x-forwarded-for': forwarded },
  });
  await exhaust(from('1.2.3.4'));
  assert.equal((await ask(from('9.9.9.9, 1.2.3.4, 10.7.7.7'))).statusCode, 429);
  assert.equal((await ask(from('1.2.3.4, 1.2.3.5'))).statusCode, 401);
  await app.close();
});

test('an address of IPv6 is its network, one of IPv4 is itself', () => {
  const network = '2001:db8:1:2::/64';
  for (const address of ['2001:db8:1:2::', '2001:DB8:1:2:3:4:5:6', '2001:db8:1:2::9', '2001:0db8:0001:0002::%eth0']) {
    assert.equal(subjectOfAddress(address), network, address);
  }
  assert.equal(subjectOfAddress('2001:db8:1:3::1'), '2001:db8:1:3::/64');
  assert.equal(subjectOfAddress('fe80::1%eth0'), 'fe80:0:0:0::/64');
  assert.equal(subjectOfAddress('::1'), '0:0:0:0::/64');
  assert.equal(subjectOfAddress('10.0.0.1'), '10.0.0.1');
  assert.equal(subjectOfAddress('unknown'), 'unknown');
});

const ratesOf = (limitsOf: (principal: Principal | null) => RateLimits) =>
  new Rates({ limiters: localLimiters(), limitsOf, addressOf: addressReader([]) });

test('each key has the limits that are its own', async () => {
  const rates = ratesOf((principal) => ({ perMinute: principal?.role === 'admin' ? 0 : 1, perHour: 0, burst: 0 }));
  for (const role of ['admin', 'user'] as const) await rates.count(principalOf(role));
  await rates.count(principalOf('admin'));
  await assert.rejects(rates.count(principalOf('user')), { code: 'rate_limited' });
});

test('each key has windows of its own, also beside one of the same name in another tenant', async () => {
  const { app, ask, exhaust } = await limitedApp();
  await exhaust();
  assert.equal((await ask()).statusCode, 429);
  assert.equal((await ask({ headers: bearer('admin') })).statusCode, 200);
  await app.close();
  const rates = ratesOf(() => ({ perMinute: 1, perHour: 0, burst: 0 }));
  const names = [
    ['a', 'b'],
    ['a', 'bc'],
    ['ab', 'c'],
    ['a","b', 'c'],
    ['a', 'b","c'],
    ['b', 'a'],
  ] as const;
  for (const [tenant, key] of names) {
    await rates.count(principalOf('user', { tenant, key }));
    await assert.rejects(rates.count(principalOf('user', { tenant, key })), { code: 'rate_limited' });
  }
});

test('of fifty requests at once as many run as there are places', async () => {
  const { app, ask } = await limitedApp();
  const answers = await Promise.all(Array.from({ length: 50 }, () => ask()));
  assert.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 10);
  assert.equal(answers.filter(({ statusCode }) => statusCode === 429).length, 40);
  await app.close();
});

test('a window that is off has no headers, and with all off nothing is refused', async () => {
  const hourly = await limitedApp({ requestsPerMinute: 0, requestsPerHour: 3, burstSize: 0 });
  assert.deepEqual(told(await hourly.ask()), [undefined, undefined, '3', '2']);
  const refused = await hourly.exhaust();
  assert.deepEqual(refused.json<{ detail: { limits: object } }>().detail.limits, {
    requests_per_minute: 0,
    requests_per_hour: 3,
    burst_size: 0,
  });
  assert.equal(refused.headers['retry-after'], '3600');
  await hourly.app.close();
  const open = await limitedApp({ requestsPerMinute: 0, requestsPerHour: 0, burstSize: 0 });
  for (let count = 0; count < 100; count += 1) {
    const answer = await open.ask();
    assert.equal(answer.statusCode, 200);
    assert.deepEqual([...told(answer), answer.headers['x-ratelimit-reset']], [...none, undefined]);
  }
  await open.app.close();
});

test('a request over the limit is refused before its body is read', limit, async () => {
  const { app, exhaust } = await limitedApp();
  await exhaust();
  const port = await listen(app);
  const head = `POST /api/claude/query HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${secretOf('user')}\r\n`;
  const answer = await exchange(port, `${head}Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 429 [^]*\r\nretry-after: 10\r\n/u);
  await app.close();
});

test('a limiter that fails lets nothing through', async () => {
  const failing = { take: () => Promise.reject(new Error('boom')) };
  const { app, engine, ask } = await limitedApp({ limiters: { keys: failing, addresses: failing } });
  const query = { method: 'POST', url: '/api/claude/query', payload: { prompt: 'x' } } as const;
  assert.equal((await ask(query)).statusCode, 500);
  assert.equal((await ask({ ...query, headers: { authorization: 'Bearer guess' } })).statusCode, 500);
  assert.equal(engine.calls.length, 0);
  await app.close();
});
