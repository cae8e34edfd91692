import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readAsked, readTold, toldText, type Told } from './relay-messages.ts';

test('messages are read as they were written, and as nothing where they are something else', () => {
  const told: Told[] = [
    { kind: 'log', seq: 0 },
    { kind: 'delta', seq: 3, block: 'thinking', offset: 2, text: '\ud83d\u0000"' },
    { kind: 'status', seq: 1, status: { status: 'running' } },
    { kind: 'status', seq: 1, status: { status: 'queued', place: 4 } },
    { kind: 'failed', seq: 9, code: 'storage_full' },
  ];
  for (const one of told) {
    assert.deepEqual(readTold(toldText(one)), one);
    for (const [name, value] of Object.entries(one)) {
      for (const other of [null, -1, 1.5, {}, [], 'x', undefined]) {
        const read = readTold(JSON.stringify({ ...one, [name]: other }));
        assert.ok(read === null || (name === 'text' && other === 'x'), `${name}: ${JSON.stringify(value)}`);
      }
    }
  }
  assert.deepEqual(readAsked('[["t","c",1,2],["t","c",1],["t",5,1,2],null,["t","d",0,0]]'), [
    { tenant: 't', conversation: 'c', seq: 1, chars: 2 },
    { tenant: 't', conversation: 'd', seq: 0, chars: 0 },
  ]);
});
