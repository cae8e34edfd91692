import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventText, frameOf } from './sse.ts';

test('a frame is one id line, one data line and an empty line, whatever the data holds', () => {
  assert.equal(eventText('4.2', { a: 1 }), 'id: 4.2\ndata: {"a":1}\n\n');
  assert.equal(eventText(null, { a: 1 }), 'data: {"a":1}\n\n');
  const frame = eventText('1.0', { text: 'a\r\n\nid: 9\n\ndata: x\u2028\ud800' });
  assert.equal(frame.match(/\n/g)?.length, 3);
  assert.equal(Buffer.from(frame).toString(), frame);
});

test('a frame is the same bytes as they are and as one chunk of an answer', () => {
  const text = eventText('1.0', { text: 'é😀' });
  const { text: bytes, chunk } = frameOf(text);
  assert.equal(bytes.toString(), text);
  assert.equal(chunk.toString(), `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
});
