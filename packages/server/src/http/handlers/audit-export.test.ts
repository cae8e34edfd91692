import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { test } from 'node:test';
import type { AuditLine } from '@sallyport/protocol';
import { bearer, eventually, listen, testApp } from '../testing.ts';

const line = (seq: number, text = ''): AuditLine => ({
  seq,
  at: 0,
  time: '1970-01-01T00:00:00.000Z',
  tenant: 'default',
  actor: 'admin',
  action: 'test',
  ref: null,
  subject: text,
  details: {},
  hash: 'x',
});
const exportUrl = '/api/admin/audit.jsonl';

test('the audit log is given as lines of JSON', async () => {
  const { app, admin } = await testApp();
  admin.exportAudit = async function* pages(_principal, after) {
    yield [line(after + 1), line(after + 2, 'two\nlines')];
    yield [line(after + 3)];
  };
  const response = await app.inject({ url: `${exportUrl}?after=4`, headers: bearer('operator') });
  assert.equal(response.headers['content-type'], 'application/x-ndjson');
  assert.match(String(response.headers['content-disposition']), /^attachment; filename="audit\.jsonl"$/u);
  const lines = response.body.trimEnd().split('\n');
  assert.deepEqual(
    lines.map((text) => JSON.parse(text) as unknown),
    [line(5), line(6, 'two\nlines'), line(7)],
  );
  await app.close();
});

/** Begins an export and gives the answer, of which nothing is read yet. */
async function beginExport(port: number): Promise<IncomingMessage> {
  const request = get(`http://127.0.0.1:${port}${exportUrl}`, { headers: bearer('admin') });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return response;
}

test('who reads slowly has the log read slowly, and who leaves ends it', async () => {
  const { app, admin } = await testApp();
  let read = 0;
  let ended = false;
  admin.exportAudit = async function* pages() {
    try {
      for (;;) yield [line((read += 1), 'x'.repeat(100_000))];
    } finally {
      ended = true;
    }
  };
  const response = await beginExport(await listen(app));
  let before = -1;
  // What the connection itself holds is filled first.
  while (before < read) {
    before = read;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.ok(read < 1000 && !ended, String(read));
  response.destroy();
  await eventually(() => ended);
  await app.close();
});

test('an export that fails on the way does not look whole', async () => {
  const { app, admin } = await testApp();
  admin.exportAudit = async function* pages() {
    yield [line(1)];
    throw new Error('the disk is gone');
  };
  const response = await beginExport(await listen(app));
  response.resume();
  await assert.rejects(once(response, 'end'), { code: 'ECONNRESET' });
  await app.close();
});
