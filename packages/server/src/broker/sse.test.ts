import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSseScanner } from './sse.ts';

function scan(...chunks: (string | Buffer)[]): string[] {
  const found: string[] = [];
  const scanner = createSseScanner((data) => found.push(data));
  for (const chunk of chunks) scanner.push(Buffer.from(chunk));
  scanner.end();
  return found;
}

test('the same events are found however the bytes are cut', () => {
  const bytes = Buffer.from(
    ': hi\n\nevent: a\ndata: {"x":"äß💥"}\n\ndata:two\r\ndata: lines\r\n\r\nid: 7\n\ndata: last\n\n',
  );
  const expected = ['{"x":"äß💥"}', 'two\nlines', 'last'];
  assert.deepEqual(scan(bytes), expected);
  assert.deepEqual(scan(...Array.from(bytes, (byte) => Buffer.from([byte]))), expected);
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.deepEqual(scan(bytes.subarray(0, cut), bytes.subarray(cut)), expected);
  }
});

test('a last event without a blank line is taken', () => {
  assert.deepEqual(scan('data: a\n\ndata: b'), ['a', 'b']);
});

test('an event that is far too long is left out and the next one is found', () => {
  const piece = 'x'.repeat(1024 * 1024);
  const pieces = Array.from({ length: 20 }, () => piece);
  assert.deepEqual(scan('data: ', ...pieces, '\n\ndata: next\n\n'), ['next']);
});
