import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { errorCatalogue, type ErrorCode } from '@sallyport/protocol';
import { nginxArguments, nginxConfig } from '../../examples/cluster/nginx.ts';
import { before, raw } from '../support/behind-nginx.ts';
import { leftOut } from '../support/needs.ts';

const post = (body: string): RequestInit => ({ method: 'POST', body });

describe('nginx before the nodes', { skip: leftOut('nginx before the nodes', ['nginx']) }, () => {
  test('the configuration is one that nginx takes, without a warning', async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'sp-nginx-'));
    t.after(() => rm(directory, { recursive: true }));
    await writeFile(join(directory, 'nginx.conf'), nginxConfig(['127.0.0.1:8000'], 8080, directory));
    const { stderr } = await promisify(execFile)('nginx', [...nginxArguments(directory), '-t']);
    assert.match(stderr, /syntax is ok/u);
    assert.doesNotMatch(stderr, /warn|emerg/u);
  });

  test('a conversation has one node, however it is asked for, and both nodes have some', async (t) => {
    const { ask } = await before(t);
    const base = '/api/claude/conversation';
    const seen = new Set<string>();
    for (let index = 0; index < 40; index += 1) {
      const id = `talk:${index}`;
      const paths = [
        `${base}/start?session_id=${id}`,
        `${base}/start?${new URLSearchParams({ session_id: id }).toString()}`,
        `${base}/start?session_id=talk%3a${index}`,
        ...['/info', '/events?follow=false', '/files/src/a.ts', ''].map((rest) => `${base}/${id}${rest}`),
        `${base}/talk%3A${index}/info`,
        `/api/claude/ws/${id}`,
        `/ws/${id}`,
      ];
      const nodes = new Set<string>();
      for (const path of paths) nodes.add((await ask(path)).text);
      assert.equal(nodes.size, 1, id);
      for (const node of nodes) seen.add(node);
    }
    assert.deepEqual([...seen].toSorted(), ['a', 'b']);
  });

  test('an id that was encoded for its start has the node of the id, with up to three colons', async (t) => {
    const { ask } = await before(t);
    for (const parts of [['a'], ['a', 'b'], ['a', 'b', 'c'], ['', 'b', ''], ['a', '', '', 'd']]) {
      for (let index = 0; index < 8; index += 1) {
        const id = [...parts, String(index)].slice(-4).join(':');
        const query = new URLSearchParams({ timeout: '5', session_id: id }).toString();
        assert.match(query, /%3A/u);
        const base = '/api/claude/conversation';
        const started = await ask(`${base}/start?${query}`, post('{}'));
        assert.equal(started.text, (await ask(`${base}/${encodeURIComponent(id)}/info`)).text, id);
      }
    }
  });

  test('what has no conversation goes to the node that has least to do', async (t) => {
    const { ask, answer } = await before(t);
    const held: (() => void)[] = [];
    const holding = Promise.withResolvers<void>();
    answer((_request, response, node) => {
      held.push(() => void response.end(node));
      if (held.length === 20) holding.resolve();
    });
    const asked = Array.from({ length: 20 }, () => ask('/api/claude/query', post('{}')));
    await holding.promise;
    for (const end of held) end();
    const nodes = (await Promise.all(asked)).map(({ text }) => text);
    assert.equal(nodes.filter((node) => node === 'a').length, 10);
  });

  test('a node is told who asks by nginx alone, and the id of the request', async (t) => {
    const { ask, got, nginx } = await before(t);
    const lies = {
      'x-forwarded-for': '1.2.3.4',
      'x-real-ip': '1.2.3.4',
      forwarded: 'for=1.2.3.4',
      'x-forwarded-proto': 'https',
    };
    for (const path of ['/api/claude/query', '/api/claude/conversation/c/info', '/api/claude/ws/x', '/health']) {
      await ask(path, { headers: { ...lies, 'x-request-id': 'my-own.id_1', authorization: 'Bearer the-secret-key' } });
      const { headers } = got.at(-1)!;
      assert.equal(headers['x-forwarded-for'], '127.0.0.1', path);
      for (const name of ['x-real-ip', 'forwarded', 'x-forwarded-proto', 'upgrade'])
        assert.equal(headers[name], undefined);
      assert.equal(headers['x-request-id'], 'my-own.id_1');
      assert.equal(headers.host, new URL(nginx.url).host);
      assert.equal(headers.authorization, 'Bearer the-secret-key');
      await ask(path, { headers: { 'x-request-id': 'no id {}' } });
      assert.match(got.at(-1)!.headers['x-request-id'] as string, /^[0-9a-f]{32}$/u);
    }
    await ask('/api/claude/ws/x?ticket=the-ticket');
    assert.match(nginx.log(), / my-own\.id_1$/mu);
    assert.doesNotMatch(nginx.log(), /the-secret-key|the-ticket/u);
  });

  test('what a node writes comes at once, also when it never ends', async (t) => {
    const { nginx, answer } = await before(t);
    let more: (text: string) => void = () => undefined;
    answer((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      more = (text) => void response.write(text);
      more('data: 0\n\n');
    });
    for (const path of ['/api/claude/conversation/c/events', '/api/claude/stream']) {
      const left = new AbortController();
      const response = await fetch(`${nginx.url}${path}`, { signal: left.signal });
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      for (let piece = 0; piece < 5; piece += 1) {
        assert.equal((await reader.read()).value, `data: ${piece}\n\n`);
        more(`data: ${piece + 1}\n\n`);
      }
      left.abort();
    }
  });

  test('a POST or a DELETE of which a node had a byte is sent to no other, a GET is', async (t) => {
    const { ask, got, answer } = await before(t);
    answer((request) => void request.socket.destroy());
    const deleting: RequestInit = { method: 'DELETE' };
    const sent: [string, RequestInit][] = [
      ['/api/claude/query', post('{}')],
      ['/api/claude/conversation/c/continue', post('{}')],
      ['/api/claude/conversation/c', deleting],
      ['/api/claude/jobs/j', deleting],
      ['/api/admin/keys/k', { method: 'PATCH', body: '{}' }],
    ];
    for (const [path, init] of sent) {
      const { status, text, headers } = await ask(path, init);
      assert.equal(status, 502);
      assert.equal(headers.get('retry-after'), '2');
      assert.deepEqual(JSON.parse(text), {
        detail: 'No node has answered. Send it again; with its Idempotency-Key it runs once.',
        code: 'not_ready',
        request_id: headers.get('x-request-id'),
        retryable: true,
      });
    }
    assert.deepEqual(
      got.map(({ method, url }) => [url, method]),
      sent.map(([path, { method }]) => [path, method]),
    );
    let first = '';
    answer((request, response, node) => {
      first ||= node;
      if (node === first) request.socket.destroy();
      else response.end(node);
    });
    const { status, text } = await ask('/api/claude/conversation/c/info');
    assert.deepEqual([status, text !== first], [200, true]);
  });

  test('that a node stops is passed on to who posts, and a GET is answered by the other one', async (t) => {
    const { ask, got, answer } = await before(t);
    let first = '';
    answer((_request, response, node) => {
      first ||= node;
      if (node !== first) return void response.end(node);
      response.writeHead(503, { 'retry-after': '7', 'content-type': 'application/json' }).end('{"code":"not_ready"}');
    });
    const posted = await ask('/api/claude/conversation/c/continue', post('{}'));
    assert.deepEqual(
      [posted.status, posted.headers.get('retry-after'), posted.text],
      [503, '7', '{"code":"not_ready"}'],
    );
    const deleted = await ask('/api/claude/conversation/c', { method: 'DELETE' });
    assert.deepEqual([deleted.status, deleted.headers.get('retry-after'), deleted.text], [503, '7', posted.text]);
    assert.equal(got.length, 2);
    const read = await ask('/api/claude/conversation/c/info');
    assert.deepEqual([read.status, read.text !== first], [200, true]);
  });

  test('a node that does not run costs nothing: whatever was to go there goes to another one, once', async (t) => {
    const { ask, got } = await before(t, 'and one that is gone');
    for (let index = 0; index < 40; index += 1) {
      assert.equal((await ask('/api/claude/query', post(`{"n":${index}}`))).status, 200);
      assert.equal((await ask(`/api/claude/conversation/c${index}/continue`, post(`{"m":${index}}`))).status, 200);
    }
    assert.equal(got.length, 80);
    assert.equal(new Set(got.map(({ body }) => body)).size, 80);
  });

  test('a DELETE that was to go to a node that does not run is done when it is asked for again, once', async (t) => {
    const { ask, got } = await before(t, 'and one that is gone');
    const paths: string[] = [];
    let refused = 0;
    while (paths.length < 20 || (refused === 0 && paths.length < 500)) {
      const path = `/api/claude/conversation/c${paths.length}`;
      paths.push(path);
      while ((await ask(path, { method: 'DELETE' })).status === 502) refused += 1;
    }
    assert.deepEqual(
      got.map(({ method, url }) => [method, url]),
      paths.map((each) => ['DELETE', each]),
    );
    assert.ok(refused > 0, 'one was to go there');
  });

  test('what nginx refuses by itself is an error of the catalogue, and its path is in the log', async (t) => {
    const { nginx, got } = await before(t);
    const head = 'Host: 127.0.0.1\r\nX-Request-Id: my-own\r\n';
    const refused: [ErrorCode, string][] = [
      ['bad_request', `POST /asked/0 HTTP/1.1\r\n${head}Content-Length: +5\r\n\r\n12345`],
      ['bad_request', `GET /asked/1 HTTP/1.1\r\n\r\n`],
      ['bad_request', `GET /asked/2 HTTP/1.1\r\n${head}Transfer-Encoding: xchunked\r\n\r\n`],
      ['bad_request', `GET /asked/3 HTTP/7.1\r\n${head}\r\n`],
      ['bad_request', 'GET /../asked/4 HTTP/1.1\r\n\r\n'],
      ['bad_request', '\u0016\u0003\u0001 is no HTTP\r\n\r\n'],
      ['not_found', `GET /refused HTTP/1.1\r\n${head}\r\n`],
      ['method_not_allowed', `TRACE /asked/5 HTTP/1.1\r\n${head}\r\n`],
      ['body_too_large', `POST /asked/6 HTTP/1.1\r\n${head}Content-Length: ${52 * 2 ** 20}\r\n\r\n`],
      ['body_too_large', `DELETE /asked/7 HTTP/1.1\r\n${head}Content-Length: ${52 * 2 ** 20}\r\n\r\n`],
      ['headers_too_large', `GET /asked/8 HTTP/1.1\r\n${head}X: ${'x'.repeat(70_000)}\r\n\r\n`],
      ['headers_too_large', `GET /${'x'.repeat(70_000)} HTTP/1.1\r\n${head}\r\n`],
    ];
    for (const [code, bytes] of refused) {
      const said = bytes.slice(0, 60);
      const [, head = '', body = ''] = /^([^]*?)\r\n\r\n([^]*)$/u.exec(await raw(nginx.url, bytes)) ?? [];
      const { status, detail, retryable } = errorCatalogue[code];
      const [, id] = /^x-request-id: (\S+)$/imu.exec(head) ?? [];
      assert.match(head, new RegExp(`^HTTP/1\\.1 ${status} `, 'u'), said);
      assert.match(head, /^content-type: application\/json$/imu);
      assert.deepEqual(JSON.parse(body), { detail, code, request_id: id, retryable }, said);
      assert.doesNotMatch(head, /^retry-after/imu);
    }
    assert.deepEqual(got, []);
    for (const path of ['/asked/0', '/asked/1', '/asked/2', '/asked/6', '/asked/8'])
      assert.match(nginx.log(), new RegExp(` ${path} 4\\d\\d `, 'u'));
  });

  test('a WebSocket goes through, and no other upgrade', async (t) => {
    const { nginx, got } = await before(t);
    const upgrade = (to: string, path: string) =>
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: ${to}\r\n\r\n`;
    const socket = connect(Number(new URL(nginx.url).port), '127.0.0.1');
    let received = '';
    socket.on('data', (chunk: Buffer) => {
      if (received === '') socket.write('ping');
      received += chunk.toString();
    });
    socket.write(upgrade('WebSocket', '/api/claude/ws/mine'));
    await once(socket, 'close');
    assert.match(received, /^HTTP\/1\.1 101 [^]*echo ping$/u);
    for (const [to, path] of [
      ['h2c', '/api/claude/ws/mine'],
      ['h2c', '/api/claude/query'],
      ['websocket', '/api/claude/query'],
    ] as const) {
      assert.match(await raw(nginx.url, upgrade(to, path)), /^HTTP\/1\.1 200 /u);
      assert.equal(got.at(-1)?.headers.upgrade, undefined);
    }
  });

  test('what could be read as two requests is refused, and no node gets any of it', async (t) => {
    const { nginx, got, ask } = await before(t);
    const head = 'POST /api/claude/query HTTP/1.1\r\nHost: 127.0.0.1\r\n';
    const hidden = 'GET /api/admin/keys HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n';
    const smuggled = [
      `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
      `${head}Content-Length: 0\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`,
      `${head}Content-Length: 0, ${hidden.length}\r\n\r\n${hidden}`,
      `${head}Content-Length : ${hidden.length}\r\n\r\n${hidden}`,
      `${head}Content-Length: +5\r\n\r\n12345`,
      `${head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${hidden}`,
      `${head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${hidden}`,
      `${head}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
      `${head}Transfer-Encoding: chunked\r\n\r\nx\r\n${hidden}`,
      `POST /api/claude/query HTTP/1.0\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
      `${head}Host: elsewhere\r\nContent-Length: 0\r\n\r\n`,
      'GET /api/claude/query HTTP/1.1\r\nContent-Length: 0\r\n\r\n',
      'CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n',
      `${head}Content-Length: ${52 * 2 ** 20}\r\n\r\n`,
      `${head}X: ${'x'.repeat(70_000)}\r\n\r\n`,
      'GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n',
    ];
    for (const bytes of smuggled) {
      assert.match(await raw(nginx.url, bytes), /^HTTP\/1\.1 (?:400|405|413|431) /u, bytes.slice(0, 200));
    }
    assert.deepEqual(got, []);
    assert.equal((await ask('/health')).headers.get('server'), 'nginx');
  });
});
