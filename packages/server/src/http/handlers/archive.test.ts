import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { inflateRawSync } from 'node:zlib';
import { base, counted, get, text } from '../files-support.ts';
import { bearer, eventually, listen, principalOf, testApp } from '../testing.ts';

const limit = { timeout: 20_000 };

/** The files of a zip archive by name. Throws when it is not whole. */
function unzip(bytes: Buffer): Record<string, string> {
  const end = bytes.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'));
  assert.ok(end >= 0, 'the archive is whole');
  const files: Record<string, string> = {};
  let at = bytes.readUInt32LE(end + 16);
  for (let left = bytes.readUInt16LE(end + 10); left > 0; left -= 1) {
    const [size, nameLength] = [bytes.readUInt32LE(at + 20), bytes.readUInt16LE(at + 28)];
    const name = bytes.toString('utf8', at + 46, at + 46 + nameLength);
    const local = bytes.readUInt32LE(at + 42);
    const data = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
    files[name] = inflateRawSync(bytes.subarray(data, data + size)).toString();
    at += 46 + nameLength + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
  return files;
}

test('an archive holds every file, but those that have gone since', async () => {
  const { app, engine } = await testApp();
  engine.workspace = {
    'a.txt': text('a'),
    'dir/é.txt': text('b'.repeat(100_000)),
    'c:x\\..\\y': text('c'),
    empty: text(''),
  };
  const listing = await engine.files(principalOf('user'), 'conv-1');
  engine.listed = { files: [{ path: 'gone', size: 1, modifiedAt: 0 }, ...listing.files], more: false };
  const answer = await app.inject(get('/files.zip'));
  assert.equal(answer.statusCode, 200, answer.body);
  assert.equal(answer.headers['content-type'], 'application/zip');
  assert.equal(answer.headers['content-security-policy'], 'sandbox');
  assert.match(String(answer.headers['content-disposition']), /^attachment; filename="conv-1\.zip"/);
  assert.deepEqual(unzip(answer.rawPayload), {
    'a.txt': 'a',
    'dir/é.txt': 'b'.repeat(100_000),
    'c_x_.._y': 'c',
    empty: '',
  });
  engine.listed = { files: [], more: false };
  assert.deepEqual(unzip((await app.inject(get('/files.zip'))).rawPayload), {});
  await app.close();
});

test('more than an archive may hold is refused before a file is opened', async () => {
  const { app, engine } = await testApp();
  const file = { path: 'a.txt', size: 1, modifiedAt: 0 };
  const state = counted(engine, 'a.txt', () => ['a'], 1);
  for (const listed of [
    { files: [file], more: true },
    { files: Array.from({ length: 10_001 }, () => file), more: false },
    { files: [file, { ...file, size: 512 * 1024 * 1024 }], more: false },
  ]) {
    engine.listed = listed;
    const answer = await app.inject(get('/files.zip'));
    assert.deepEqual([answer.statusCode, answer.json<{ code: string }>().code], [413, 'too_many_files']);
  }
  engine.listed = { files: [{ ...file, size: 512 * 1024 * 1024 }], more: false };
  assert.equal((await app.inject(get('/files.zip'))).statusCode, 200);
  assert.equal(state.opened, 1);
  await app.close();
});

test('an archive whose files grew beyond the bound, or cannot be read, is cut', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const ask = async () =>
    (await fetch(`http://127.0.0.1:${port}${base}/files.zip`, { headers: bearer('viewer') })).arrayBuffer();
  const last = counted(engine, 'z', () => ['a'], 512 * 1024 * 1024);
  await assert.rejects(ask());
  await eventually(() => last.open === 0);
  engine.workspace['z'] = () => ({ size: 9, content: Readable.from(['short']) });
  await assert.rejects(ask());
  engine.workspace['z'] = () => {
    throw new Error('canary');
  };
  await assert.rejects(ask());
  await app.close();
});

test('a client that leaves closes the file that is open, and no other is opened', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  async function* endless() {
    for (;;) {
      yield String(Math.random()).repeat(4000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  engine.workspace = {};
  const first = counted(engine, 'first', endless, 1e8);
  const second = counted(engine, 'second', endless, 1e8);
  for (const path of ['/files.zip', '/files/first']) {
    const leave = new AbortController();
    const answer = await fetch(`http://127.0.0.1:${port}${base}${path}`, {
      headers: bearer('viewer'),
      signal: leave.signal,
    });
    await answer.body?.getReader().read();
    assert.equal(first.open, 1, path);
    leave.abort();
    await eventually(() => first.open === 0);
  }
  assert.deepEqual([first.opened, second.opened], [2, 0]);
  await app.close();
});

test('a client that leaves while a file is being opened closes it as soon as it is', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const opening = Promise.withResolvers<void>();
  const content = new Readable({ read: () => undefined });
  let asked = false;
  engine.file = async () => {
    asked = true;
    await opening.promise;
    return { size: 1, content };
  };
  const sockets: Socket[] = [];
  app.server.on('connection', (socket) => sockets.push(socket));
  const leave = new AbortController();
  const url = `http://127.0.0.1:${port}${base}/files.zip`;
  const answer = fetch(url, { headers: bearer('viewer'), signal: leave.signal }).catch(() => null);
  await eventually(() => asked);
  leave.abort();
  await answer;
  await eventually(() => sockets.every((socket) => socket.destroyed));
  opening.resolve();
  await eventually(() => content.destroyed);
  await app.close();
});
