import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TranscriptEntry, TranscriptKey, TranscriptStore } from '../engine/ports.ts';
import { createTranscriptMirror, pastOf } from './transcripts.ts';

/** A store that fails as often as it is told to. */
function memory() {
  const kept = new Map<string, TranscriptEntry[]>();
  const keyOf = ({ tenant, session, subpath }: TranscriptKey) => [tenant, session, subpath].join('|');
  const state = { failures: 0, hold: null as Promise<void> | null, kept };
  const store: TranscriptStore = {
    async append(key, entries) {
      await state.hold;
      if (state.failures-- > 0) throw new Error('the store is away');
      kept.set(keyOf(key), [...(kept.get(keyOf(key)) ?? []), ...entries]);
    },
    load: async (key) => kept.get(keyOf(key)) ?? null,
    has: async () => assert.fail('not asked'),
    subpaths: async () => assert.fail('not asked'),
    delete: async () => {},
  };
  return { state, store };
}

const ref = { tenant: 'acme', conversation: 'conv-1', turn: 'turn-1', epoch: 1 };
const key = { projectKey: '-some-folded-path', sessionId: 's1' };
const entry = (uuid: string) => ({ type: 'user', uuid });
const uuids = (entries: readonly TranscriptEntry[] | undefined) => (entries ?? []).map((each) => each['uuid']);

test('entries are kept by tenant and session, whatever the project key', async () => {
  const { state, store } = memory();
  const { sessionStore, holds } = createTranscriptMirror(store, ref, null);
  await sessionStore.append(key, [entry('1')]);
  await sessionStore.append({ ...key, projectKey: 'other' }, [entry('2'), { type: 'title' }]);
  await sessionStore.append({ ...key, subpath: 'subagents/agent-1' }, [entry('3')]);
  assert.deepEqual([...state.kept.keys()], ['acme|s1|', 'acme|s1|subagents/agent-1']);
  assert.deepEqual(uuids(state.kept.get('acme|s1|')), ['1', '2', undefined]);
  assert.deepEqual([holds('2'), holds('4')], [true, false]);
});

test('the past is written where Claude Code looks for it, and the SDK is told of none', async () => {
  const { state, store } = memory();
  assert.equal(await pastOf(store, 'acme', 's1'), null);
  state.kept.set('acme|s1|', [{ type: 'queue-operation' }]);
  assert.equal(await pastOf(store, 'acme', 's1'), null, 'a transcript without a message');
  const entries = [{ type: 'queue-operation' }, entry('1')];
  state.kept.set('acme|s1|', entries);
  assert.equal(await pastOf(store, 'other', 's1'), null);
  assert.deepEqual(await pastOf(store, 'acme', 's1'), entries);
  const written: unknown[] = [];
  const past = { entries, write: async (file: unknown) => void written.push(file) };
  assert.equal(await createTranscriptMirror(store, ref, past).sessionStore.load(key), null);
  const content = '{"type":"queue-operation"}\n{"type":"user","uuid":"1"}\n';
  assert.deepEqual(written, [{ path: 'projects/-some-folded-path/s1.jsonl', content }]);
});

test('a repeated append fills the gap a failure left', async () => {
  const { state, store } = memory();
  const mirror = createTranscriptMirror(store, ref, null);
  const batch = [entry('1')];
  state.failures = 2;
  await assert.rejects(mirror.sessionStore.append(key, batch), /away/);
  assert.match(String(mirror.failure), /away/);
  await assert.rejects(mirror.sessionStore.append(key, batch), /away/);
  await mirror.sessionStore.append(key, batch);
  assert.equal(mirror.failure, null);
  await mirror.sessionStore.append(key, [entry('2')]);
  assert.deepEqual(uuids(state.kept.get('acme|s1|')), ['1', '2']);
});

test('nothing is stored after an append that was given up', async () => {
  const { state, store } = memory();
  const mirror = createTranscriptMirror(store, ref, null);
  await mirror.sessionStore.append(key, [entry('1')]);
  state.failures = 1;
  await assert.rejects(mirror.sessionStore.append(key, [entry('2')]));
  await assert.rejects(mirror.sessionStore.append(key, [entry('3')]), /given up/);
  await assert.rejects(mirror.sessionStore.append(key, [entry('4')]), /given up/);
  assert.deepEqual(uuids(state.kept.get('acme|s1|')), ['1']);
  assert.match(String(mirror.failure), /away/);
});

test('nothing is stored after an append that hangs', async () => {
  const { state, store } = memory();
  const mirror = createTranscriptMirror(store, ref, null);
  const { promise, resolve } = Promise.withResolvers<void>();
  state.hold = promise;
  const hanging = mirror.sessionStore.append(key, [entry('1')]);
  await assert.rejects(mirror.sessionStore.append(key, [entry('2')]), /given up/);
  resolve();
  await hanging;
  assert.deepEqual(uuids(state.kept.get('acme|s1|')), ['1']);
});

test('who waits for a call or an outcome is told when it is stored, not before', async () => {
  const { state, store } = memory();
  const { sessionStore, ...mirror } = createTranscriptMirror(store, ref, null);
  const told: string[] = [];
  for (const what of ['call', 'outcome'] as const) void mirror.stored(what, 'toolu_1').then(() => told.push(what));
  const holding = Promise.withResolvers<void>();
  state.hold = holding.promise;
  const call = {
    type: 'assistant',
    uuid: '1',
    message: { content: [{ type: 'tool_use', id: 'toolu_1', name: 'Read' }] },
  };
  const outcome = { type: 'user', uuid: '2', message: { content: [{ type: 'tool_result', tool_use_id: 'toolu_1' }] } };
  void sessionStore.append(key, [call]);
  const settled = mirror.settled().then(() => told.push('settled'));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(told, []);
  holding.resolve();
  await settled;
  assert.deepEqual(told, ['call', 'settled']);
  await sessionStore.append(key, [outcome]);
  await mirror.stored('outcome', 'toolu_1');
});

test('a closed mirror takes nothing', async () => {
  const { state, store } = memory();
  const mirror = createTranscriptMirror(store, ref, null);
  mirror.close();
  await mirror.sessionStore.append(key, [entry('1')]);
  assert.deepEqual([state.kept.size, mirror.holds('1')], [0, false]);
});
