import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testApp } from './testing.ts';

async function addressFor(trustedProxies: string[], remoteAddress: string, forwarded: string): Promise<unknown> {
  const { app, log } = await testApp({ trustedProxies });
  await app.inject({
    url: '/openapi.json',
    remoteAddress,
    headers: { 'x-forwarded-for': forwarded, 'x-real-ip': '9.9.9.9' },
  });
  await app.close();
  return log.find(({ msg }) => msg === 'request')?.['client'];
}

test('forwarded addresses count only from trusted proxies, and only as far as they are trusted', async () => {
  assert.equal(await addressFor([], '10.0.0.1', '1.2.3.4'), '10.0.0.1');
  assert.equal(await addressFor(['10.0.0.1'], '10.0.0.2', '1.2.3.4'), '10.0.0.2');
  assert.equal(await addressFor(['10.0.0.1'], '10.0.0.1', '1.2.3.4'), '1.2.3.4');
  assert.equal(await addressFor(['10.0.0.0/8'], '10.0.0.1', '6.6.6.6, 1.2.3.4, 10.0.0.9'), '1.2.3.4');
  assert.equal(await addressFor(['10.0.0.1'], '::ffff:10.0.0.1', '::ffff:1.2.3.4'), '1.2.3.4');
  assert.equal(await addressFor(['10.0.0.1'], '10.0.0.1', '2001:db8::1'), '2001:db8::1');
});

test('a forwarded text that is no address is never taken for one', async () => {
  for (const text of ['unknown', '<script>', '1.2.3.4:80', '999.1.1.1', 'a'.repeat(5000), '']) {
    assert.equal(await addressFor(['10.0.0.1'], '10.0.0.1', text), '10.0.0.1', text);
  }
});

test('a proxy that is no address stops the start', async () => {
  await assert.rejects(testApp({ trustedProxies: ['proxy.example.com'] }));
});
