import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { ownCertificate, type OwnCertificate } from './certificate-support.ts';
import { createWebhookSender } from './sender.ts';

const bounds = { connectMs: 120_000, wholeMs: 120_000 };
const never = new AbortController().signal;

/** A receiver on loopback that speaks TLS, and how many requests it was sent. */
async function receiver(t: TestContext, certificate: OwnCertificate) {
  const seen: string[] = [];
  const server = createServer(certificate, (request, response) => {
    seen.push(request.url ?? '');
    request.resume();
    response.end();
  });
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { seen, port: (server.address() as AddressInfo).port };
}

const send = (url: string, ca?: string) =>
  createWebhookSender({
    privateNetworks: ['127.0.0.1'],
    bounds,
    resolve: async () => ['127.0.0.1'],
    ...(ca !== undefined && { ca }),
  }).send({ url, headers: {}, body: '{}' }, never);

const distrusted = { status: null, problem: 'certificate' };

test('a message goes to a receiver whose certificate is believed', async (t) => {
  const certificate = ownCertificate('127.0.0.1');
  const { seen, port } = await receiver(t, certificate);
  deepStrictEqual(await send(`https://127.0.0.1:${port}/in`, certificate.cert), { status: 200, retryAfter: undefined });
  deepStrictEqual(seen, ['/in']);
});

test('nothing is sent to one whose certificate is not, also where Node was told to believe all', async (t) => {
  const { seen, port } = await receiver(t, ownCertificate('127.0.0.1'));
  const url = `https://127.0.0.1:${port}/in`;
  deepStrictEqual(await send(url), distrusted);
  deepStrictEqual(await send(url, ownCertificate('127.0.0.1').cert), distrusted);
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  t.after(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']);
  deepStrictEqual(await send(url), distrusted);
  strictEqual(seen.length, 0);
});

test('nothing is sent to one whose certificate names another host', async (t) => {
  const certificate = ownCertificate('127.0.0.9');
  const { seen, port } = await receiver(t, certificate);
  deepStrictEqual(await send(`https://127.0.0.1:${port}/`, certificate.cert), distrusted);
  deepStrictEqual(await send(`https://hooks.example.com:${port}/`, certificate.cert), distrusted);
  strictEqual(seen.length, 0);
});
