import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TranscriptEntry, TranscriptKey, TranscriptStore } from '../engine/ports.ts';
import { createTranscriptMirror } from './transcripts.ts';

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
    subpaths: async () => ['subagents/agent-1'],
    delete: async () => {},
  };
  return { state, store };
}

const key = { projectKey: '-some-folded-path', sessionId: 's1' };
const entry = (uuid: string) => ({ type: 'user', uuid });
const uuids = (entries: readonly TranscriptEntry[] | undefined) => (entries ?? []).map((each) => each['uuid']);

test('entries are kept by tenant and session, whatever the project key', async () => {
  const { state, store } = memory();
  const { sessionStore, holds } = createTranscriptMirror(store, 'acme');
  await sessionStore.append(key, [entry('1')]);
  await sessionStore.append({ ...key, projectKey: 'other' }, [entry('2'), { type: 'title' }]);
  await sessionStore.append({ ...key, subpath: 'subagents/agent-1' }, [entry('3')]);
  assert.deepEqual([...state.kept.keys()], ['acme|s1|', 'acme|s1|subagents/agent-1']);
  assert.deepEqual(uuids(state.kept.get('acme|s1|')), ['1', '2', undefined]);
  assert.deepEqual(uuids((await sessionStore.load(key)) ?? undefined), ['1', '2', undefined]);
  assert.equal(await createTranscriptMirror(store, 'other').sessionStore.load(key), null);
  assert.deepEqual(await sessionStore.listSubkeys?.(key), ['subagents/agent-1']);
  assert.deepEqual([holds('2'), holds('4')], [true, false]);
});

test('a repeated append fills the gap a failure left', async () => {
  const { state, store } = memory();
  const mirror = createTranscriptMirror(store, 'acme');
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
  const mirror = createTranscriptMirror(store, 'acme');
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
  const mirror = createTranscriptMirror(store, 'acme');
  const { promise, resolve } = Promise.withResolvers<void>();
  state.hold = promise;
  const hanging = mirror.sessionStore.append(key, [entry('1')]);
  await assert.rejects(mirror.sessionStore.append(key, [entry('2')]), /given up/);
  resolve();
  await hanging;
  assert.deepEqual(uuids(state.kept.get('acme|s1|')), ['1']);
});

test('a closed mirror takes nothing', async () => {
  const { state, store } = memory();
  const mirror = createTranscriptMirror(store, 'acme');
  mirror.close();
  await mirror.sessionStore.append(key, [entry('1')]);
  assert.deepEqual([state.kept.size, mirror.holds('1')], [0, false]);
});
