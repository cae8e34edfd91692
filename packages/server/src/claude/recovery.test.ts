import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TranscriptEntry } from '../engine/ports.ts';
import { callsOf, dueCall, mended, transcriptState } from './recovery.ts';

/** A turn of Claude Code: thinking, a text and two reads in one answer, their outcomes, then a text and two writes. */
const recorded = JSON.parse(
  readFileSync(join(import.meta.dirname, 'testdata/open-calls.json'), 'utf8'),
) as TranscriptEntry[];
const message = '11111111-1111-4111-8111-111111111111';
const [readA, readB, writeA, writeB] = callsOf(recorded).map(({ id }) => id) as [string, string, string, string];
const idOf = (call: string) => dueCall(recorded, { toolUseId: call, input: {} }).messageId!;
const answerOf = (stop: string, changes: object = {}): TranscriptEntry => ({
  type: 'assistant',
  uuid: 'answer',
  parentUuid: 'last',
  message: { id: 'msg_last', content: [{ type: 'text', text: 'done' }], stop_reason: stop, ...changes },
});
/** The transcript up to the outcomes of the reads. */
const read = recorded.slice(0, recorded.findLastIndex(({ type }) => type === 'user') + 1);

test('calls are open until their outcome is there', () => {
  const state = transcriptState(recorded, message);
  assert.deepEqual(state.open, [
    { toolUseId: writeA, name: 'Write' },
    { toolUseId: writeB, name: 'Write' },
  ]);
  assert.deepEqual([state.hasMessage, state.answered, state.closed], [true, false, new Set([readA, readB])]);
  const firstOutcome = read.findIndex((entry) => JSON.stringify(entry).includes('"tool_result"'));
  assert.deepEqual(transcriptState(read.slice(0, firstOutcome + 1), message).open.length, 1);
  assert.deepEqual(transcriptState(read, message).open, []);
});

test('a turn has only what comes after its message', () => {
  const unknown = transcriptState(recorded, '00000000-0000-4000-8000-000000000000');
  assert.deepEqual([unknown.hasMessage, unknown.open, unknown.closed.size, unknown.answered], [false, [], 0, false]);
  assert.deepEqual(transcriptState([], message).hasMessage, false);
  const next = [...read, answerOf('end_turn'), { type: 'user', uuid: 'next', message: { content: 'go' } }];
  const state = transcriptState(next, 'next');
  assert.deepEqual([state.hasMessage, state.answered, state.closed.size], [true, false, 0]);
  assert.equal(state.hasText('msg_last', 'done'), false);
});

test('a turn is answered when the last answer of the model ends it, and not by an error in words', () => {
  const answered = (...more: TranscriptEntry[]) => transcriptState([...read, ...more], message).answered;
  assert.equal(answered(), false);
  assert.equal(answered(answerOf('end_turn')), true);
  assert.equal(answered(answerOf('end_turn'), { type: 'system', subtype: 'note' }), true);
  for (const stop of ['tool_use', 'refusal', 'max_tokens', 'pause_turn']) assert.equal(answered(answerOf(stop)), false);
  assert.equal(answered(answerOf('stop_sequence', { model: '<synthetic>' })), false);
  assert.equal(answered({ ...answerOf('end_turn'), isSidechain: true }), false);
  assert.equal(transcriptState([...recorded, answerOf('end_turn')], message).answered, false, 'calls are open');
});

test('a text is there as a whole block of its answer', () => {
  const { hasText } = transcriptState(recorded, message);
  const [first, second] = [
    callsOf(recorded).find(({ id }) => id === readA)?.entry['message'],
    { id: idOf(writeA) },
  ] as { id: string }[];
  assert.ok(hasText(first!.id, 'I look.') && hasText(first!.id, 'I should look.') && hasText(second!.id, 'I write.'));
  assert.ok(!hasText(second!.id, 'I look.') && !hasText(first!.id, 'I look') && !hasText('', 'I look.'));
});

test('outcomes and the call are chained to the last entry, in order, and say where they come from', () => {
  const outcomes = [{ toolUseId: writeB, text: 'canary', ok: false }];
  const call = { toolUseId: writeA, input: { file_path: 'a.txt', content: 'human' } };
  const { restored, added } = mended(recorded, { outcomes, call }, 0);
  const [result, deferred] = added as [TranscriptEntry, TranscriptEntry];
  assert.equal(added.length, 2);
  const last = recorded.findLast(({ uuid, parentUuid }) => uuid !== undefined && parentUuid !== undefined);
  assert.deepEqual([result['parentUuid'], deferred['parentUuid']], [last?.['uuid'], result['uuid']]);
  assert.notEqual(result['uuid'], deferred['uuid']);
  const made = callsOf(recorded).find(({ id }) => id === writeB)!.entry;
  for (const name of ['userType', 'entrypoint', 'cwd', 'sessionId', 'version', 'gitBranch']) {
    assert.ok(made[name] !== undefined && result[name] === made[name] && deferred[name] === made[name], name);
  }
  assert.equal(result['timestamp'], '1970-01-01T00:00:00.000Z');
  assert.equal(result['sourceToolAssistantUUID'], made['uuid']);
  assert.deepEqual(result['message'], {
    role: 'user',
    content: [{ type: 'tool_result', content: 'canary', is_error: true, tool_use_id: writeB }],
  });
  const { toolUseID, toolName, toolInput } = deferred['attachment'] as Record<string, unknown>;
  assert.deepEqual([toolUseID, toolName, toolInput], [writeA, 'Write', call.input]);
  assert.deepEqual(restored.slice(-2), added);
  const inputs = (entries: readonly TranscriptEntry[]) => callsOf(entries).map(({ input }) => input);
  assert.deepEqual(inputs(restored), inputs(recorded).with(2, call.input));
  assert.deepEqual(transcriptState(restored, message).open, [{ toolUseId: writeA, name: 'Write' }]);
});

test('what is given is not changed, and nothing open needs nothing', () => {
  const before = structuredClone(recorded);
  mended(recorded, { outcomes: [], call: { toolUseId: writeA, input: { content: 'x' } } }, 0);
  assert.deepEqual(recorded, before);
  assert.deepEqual(mended(read, { outcomes: [], call: null }, 0), { restored: read, added: [] });
});

test('a call that is unknown, or has its outcome, or is of a subagent, is not gone on with', () => {
  const subagent = recorded.map((entry) => ({ ...entry, isSidechain: true }));
  for (const [entries, toolUseId] of [
    [recorded, 'toolu_none'],
    [recorded, readA],
    [subagent, writeA],
  ] as const) {
    const call = { toolUseId, input: {} };
    assert.throws(() => mended(entries, { outcomes: [], call }, 0), /not open/);
    assert.throws(() => mended(entries, { outcomes: [{ toolUseId, text: '', ok: true }], call: null }, 0), /not open/);
    assert.throws(() => dueCall(entries, call), /not open/);
  }
});
