import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { defaultBounds, operations } from '@sallyport/protocol';
import { SallyportError } from '../../engine/errors.ts';
import { base, counted, get, text } from '../files-support.ts';
import { bearer, eventually, exchange, listen, secretOf, testApp } from '../testing.ts';

const limit = { timeout: 20_000 };
const table = operations(defaultBounds);
test('the files are listed in their shape', async () => {
  const { app, engine } = await testApp();
  engine.listed = { files: [{ path: 'a/b.txt', size: 7, modifiedAt: 1_900_000_000_123 }], more: true };
  const answer = await app.inject(get('/files'));
  assert.equal(answer.statusCode, 200);
  const body: unknown = answer.json();
  assert.deepEqual(body, {
    items: [{ path: 'a/b.txt', size: 7, modified_at: '2030-03-17T17:46:40.123Z' }],
    more: true,
    next_cursor: null,
  });
  assert.deepEqual(table.conversationFiles.response.schema.parse(body), body);
  await app.close();
});

test('a file is given whole, as an attachment that is neither shown nor run', async () => {
  const { app, engine } = await testApp();
  engine.workspace['dir/page é"(1).html'] = text('<script>1</script>');
  const answer = await app.inject(get(`/files/dir/${encodeURIComponent('page é"(1).html')}`));
  assert.equal(answer.statusCode, 200, answer.body);
  assert.equal(answer.body, '<script>1</script>');
  assert.equal(answer.headers['content-type'], 'application/octet-stream');
  assert.equal(answer.headers['content-length'], '18');
  assert.equal(answer.headers['x-content-type-options'], 'nosniff');
  assert.equal(answer.headers['content-security-policy'], 'sandbox');
  assert.equal(answer.headers['cache-control'], 'no-store');
  assert.equal(
    answer.headers['content-disposition'],
    `attachment; filename="page____1_.html"; filename*=UTF-8''page%20%C3%A9%22%281%29.html`,
  );
  await app.close();
});

test('the slashes of a path may be encoded or not, and every other character is what it stands for', async () => {
  const { app, engine } = await testApp();
  for (const [sent, path] of [
    ['a', 'a'],
    ['a/b/c', 'a/b/c'],
    ['a%2Fb%2fc', 'a/b/c'],
    ['a/.hidden', 'a/.hidden'],
    ['100%25', '100%'],
    ['a%252Fb', 'a%2Fb'],
    ['a%3Fb%23c', 'a?b#c'],
    ['a?x=1', 'a'],
    ['a+b%20c%26', 'a+b c&'],
    ['%F0%9F%98%80', '😀'],
    ['a%5Cb', 'a\\b'],
    ['...', '...'],
    ['*', '*'],
    ['files.zip', 'files.zip'],
    ['__proto__', '__proto__'],
    [`${'x'.repeat(200)}/`.repeat(20).slice(0, 4000), `${'x'.repeat(200)}/`.repeat(20).slice(0, 4000)],
  ] as const) {
    engine.asked.length = 0;
    const answer = await app.inject(get(`/files/${sent}`));
    assert.ok([200, 404].includes(answer.statusCode), `${sent}: ${answer.body}`);
    const asked = engine.asked[0];
    assert.deepEqual([asked?.what, asked?.id, asked?.rest], ['file', 'conv-1', [path]], sent);
  }
  await app.close();
});

test('a path that leads elsewhere is refused before the engine is asked', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  for (const path of [
    '',
    '..',
    '../x',
    '..%2Fx',
    '%2e%2e/x',
    '%2E%2E%2Fx',
    'a/../b',
    'a/..',
    'a/%2e%2e/b',
    '.',
    'a/./b',
    'a//b',
    'a/',
    '/a',
    '%2Fetc%2Fpasswd',
    'a%00b',
    '%00',
    'a%0ab',
    'x'.repeat(4097),
  ]) {
    const head = `GET ${base}/files/${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n`;
    const answer = await exchange(port, `${head}Authorization: Bearer ${secretOf('viewer')}\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 422 [^]*"loc":\["path","path"\]/, path);
  }
  for (const path of ['%ff', '%zz', 'a%', '%ed%a0%80']) {
    assert.equal((await app.inject(get(`/files/${path}`))).statusCode, 400, path);
  }
  assert.equal(engine.asked.length, 0);
  await app.close();
});

test('a HEAD request tells the length and closes the file unread', async () => {
  const { app, engine } = await testApp();
  const state = counted(engine, 'a', () => ['abc'], 3);
  const answer = await app.inject({ ...get('/files/a'), method: 'HEAD' });
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.headers['content-length'], '3');
  assert.equal(answer.body, '');
  await eventually(() => state.open === 0);
  const zip = await app.inject({ ...get('/files.zip'), method: 'HEAD' });
  assert.deepEqual([zip.statusCode, zip.headers['content-type']], [200, 'application/zip']);
  assert.equal(state.opened, 1);
  await app.close();
});

test('a file that grew gives what was announced, and the connection stays usable', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  engine.workspace['grown'] = () => ({ size: 3, content: Readable.from(['ab', 'cdef', 'HTTP/1.1 200 OK']) });
  const request = (path: string, more: string) =>
    `GET ${base}/files/${path} HTTP/1.1\r\nHost: localhost\r\n${more}Authorization: Bearer ${secretOf('viewer')}\r\n\r\n`;
  const answers = await exchange(port, request('grown', ''), request('a.txt', 'Connection: close\r\n'));
  assert.match(answers, /content-length: 3\r\n[^]*?\r\n\r\nabcHTTP\/1\.1 200 OK\r\n[^]*\r\n\r\na$/i);
  await app.close();
});

test('a file that cannot be read to its end is cut, or an error when nothing of it was sent', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const ask = (path: string) => fetch(`http://127.0.0.1:${port}${base}/files/${path}`, { headers: bearer('viewer') });
  engine.workspace['short'] = () => ({ size: 9, content: Readable.from(['ab']) });
  await assert.rejects(ask('short').then((answer) => answer.text()));
  engine.workspace['broken'] = () => ({
    size: 9,
    content: new Readable({
      read() {
        this.destroy(new Error('canary'));
      },
    }),
  });
  const answer = await ask('broken');
  assert.equal(answer.status, 500);
  assert.equal(answer.headers.get('content-disposition'), null);
  assert.match(String(answer.headers.get('content-type')), /^application\/json/);
  assert.equal(((await answer.json()) as { code: string }).code, 'internal');
  await app.close();
});

test('what the engine refuses is answered with its own status', async () => {
  const { app, engine } = await testApp();
  for (const code of ['conversation_not_found', 'gone', 'file_not_found'] as const) {
    const refusal = new SallyportError(code);
    engine.refusal = refusal;
    for (const path of ['/files', '/files/a.txt', '/files.zip']) {
      const answer = await app.inject(get(path));
      assert.equal(answer.statusCode, refusal.status);
      assert.equal(answer.json<{ code: string }>().code, code);
      assert.equal(answer.headers['content-disposition'], undefined);
    }
  }
  await app.close();
});
