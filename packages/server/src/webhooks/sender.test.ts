import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { createWebhookSender, type SenderOptions } from './sender.ts';

/** No try of these tests ends by its time, but where that is what is tested. */
const patient = { connectMs: 120_000, wholeMs: 120_000 };
const hasty = { connectMs: 120_000, wholeMs: 50 };

const local = (part: Partial<SenderOptions> = {}) =>
  createWebhookSender({ privateNetworks: ['127.0.0.1'], bounds: patient, ...part });

const never = new AbortController().signal;

const message = (url: string, body = '{"a":"é"}') => ({ url, body, headers: { 'webhook-id': 'hook-1' } });

async function listening(t: TestContext, server: Server, host = '127.0.0.1'): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  server.listen(0, host);
  await once(server, 'listening');
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** A receiver on loopback, and what it was sent. */
async function receiver(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  host = '127.0.0.1',
) {
  const seen: { method: string; url: string; headers: IncomingMessage['headers']; body: string }[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      seen.push({ method, url, headers, body: Buffer.concat(parts).toString() });
      answer(request, response);
    });
  });
  const at = await listening(t, server, host);
  return { seen, port: at, url: `http://${host}:${at}` };
}

test('a message is posted as it is, with its headers, and the status comes back', async (t) => {
  const { seen, url } = await receiver(t, (_, response) => response.writeHead(202).end('thanks'));
  deepStrictEqual(await local().send(message(`${url}/in?a=b#c`), never), { status: 202, retryAfter: undefined });
  const [got] = seen;
  ok(got);
  deepStrictEqual([got.method, got.url, got.body], ['POST', '/in?a=b', '{"a":"é"}']);
  const { host, ...headers } = got.headers;
  strictEqual(host, new URL(url).host);
  deepStrictEqual(headers, {
    'content-type': 'application/json',
    'content-length': '10',
    'user-agent': 'Sallyport',
    'webhook-id': 'hook-1',
    connection: 'close',
  });
});

test('a redirect is an answer, and is not followed', async (t) => {
  const target = await receiver(t, (_, response) => response.end());
  for (const status of [301, 302, 303, 307, 308]) {
    const location = status === 302 ? 'http://169.254.169.254/latest/meta-data/' : `${target.url}/secret`;
    const { url } = await receiver(t, (_, response) => response.writeHead(status, { location }).end());
    deepStrictEqual(await local().send(message(url), never), { status, retryAfter: undefined });
  }
  strictEqual(target.seen.length, 0);
});

test('what a receiver asks for with Retry-After comes back, and nothing else of its answer', async (t) => {
  const { url } = await receiver(t, (_, response) =>
    response.writeHead(503, { 'retry-after': '7', 'x-secret': 'canary' }).end('canary'),
  );
  deepStrictEqual(await local().send(message(url), never), { status: 503, retryAfter: '7' });
});

test('an answer that never ends is cut, and its status counts', async (t) => {
  let written = 0;
  const { url } = await receiver(t, (_, response) => {
    const more = () => {
      while (!response.destroyed && response.write('x'.repeat(65_536))) written += 65_536;
    };
    response.on('drain', more).writeHead(200, { 'content-encoding': 'gzip' });
    more();
  });
  deepStrictEqual(await local().send(message(url), never), { status: 200, retryAfter: undefined });
  ok(written < 100_000_000, String(written));
});

test('an answer that stays away after its head is waited for in vain, and its status counts', async (t) => {
  const { url } = await receiver(t, (_, response) => void response.writeHead(200).write('{'));
  // Given up before its head has come, it has no status: so it gets more time until that has.
  for (let wholeMs = 100; ; wholeMs *= 2) {
    const answer = await local({ bounds: { ...patient, wholeMs } }).send(message(url), never);
    if (answer.status !== null || wholeMs > 10_000)
      return deepStrictEqual(answer, { status: 200, retryAfter: undefined });
  }
});

test('a receiver that says nothing is a timeout, whether it takes the connection or the request', async (t) => {
  const { url } = await receiver(t, () => undefined);
  deepStrictEqual(await local({ bounds: hasty }).send(message(url), never), { status: null, problem: 'timeout' });
  const silent = createTcpServer(() => undefined);
  const port = await listening(t, silent);
  const bounds = { connectMs: 50, wholeMs: 120_000 };
  const sender = local({ bounds });
  const encrypted = await sender.send(message(`https://127.0.0.1:${port}/`), never);
  deepStrictEqual(encrypted, { status: null, problem: 'timeout' }, 'the encryption belongs to the connection');
  const resolve = () => new Promise<string[]>(() => undefined);
  const unnamed = await local({ bounds, resolve }).send(message('https://slow.example.com/'), never);
  deepStrictEqual(unnamed, { status: null, problem: 'timeout' });
});

test('one that is told to stop stops', async (t) => {
  const stop = new AbortController();
  const { url } = await receiver(t, () => stop.abort());
  deepStrictEqual(await local().send(message(url), stop.signal), { status: null, problem: 'interrupted' });
  deepStrictEqual(await local().send(message(url), stop.signal), { status: null, problem: 'interrupted' });
});

test('what is no answer is a failed connection', async (t) => {
  const garbage = createTcpServer((socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n'));
  const port = await listening(t, garbage);
  const failed = { status: null, problem: 'connection' };
  deepStrictEqual(await local().send(message(`http://127.0.0.1:${port}/`), never), failed);
  const resets = createTcpServer((socket) => socket.resetAndDestroy());
  deepStrictEqual(await local().send(message(`http://127.0.0.1:${await listening(t, resets)}/`), never), failed);
  const upgrade = createTcpServer((socket) =>
    socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'),
  );
  deepStrictEqual(await local().send(message(`http://127.0.0.1:${await listening(t, upgrade)}/`), never), failed);
});

test('a name is looked up once, and the connection goes where it led then', async (t) => {
  const right = await receiver(t, (_, response) => response.end(), '127.0.0.2');
  const answers = ['127.0.0.2', '127.0.0.1', '127.0.0.1', '127.0.0.1'];
  let lookups = 0;
  const resolve = async () => [answers[lookups++] ?? '127.0.0.1'];
  const sender = createWebhookSender({ privateNetworks: ['127.0.0.2'], bounds: patient, resolve });
  const url = `http://rebind.example.com:${right.port}/`;
  strictEqual((await sender.send(message(url), never)).status, 200);
  strictEqual(right.seen[0]?.headers.host, `rebind.example.com:${right.port}`);
  deepStrictEqual(await sender.send(message(url), never), { status: null, problem: 'address_refused' });
  deepStrictEqual([lookups, right.seen.length], [2, 1]);
});

test('of the addresses of a name the ones that do not answer are passed over', async (t) => {
  const { port, seen } = await receiver(t, (_, response) => response.end());
  const resolve = async () => ['127.0.0.3', '127.0.0.1'];
  const sender = createWebhookSender({ privateNetworks: ['127.0.0.0/8'], bounds: patient, resolve });
  strictEqual((await sender.send(message(`http://two.example.com:${port}/`), never)).status, 200);
  strictEqual(seen.length, 1);
});
