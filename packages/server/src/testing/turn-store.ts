import { deepStrictEqual, notStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import type { LogEvent } from '@sallyport/protocol';
import fc from 'fast-check';
import { StaleEpochError, type TurnRef, type TurnStore } from '../engine/ports.ts';
import { awkwardJson, declare, type MakeStore, type Promises } from './contract.ts';
import { aNext, aText, aToolStart, anAccept, anEnd } from './turns.ts';

/** What every `TurnStore` promises. */
export function turnStoreContract(makeStore: MakeStore<TurnStore>): void {
  declare('turn store', promises, makeStore);
}

const at = 1_700_000_000_500;

const texts = (events: readonly LogEvent[]) =>
  events.map(({ seq, body }) => [seq, body.type === 'text' ? body.text : body.type]);

const all = (store: TurnStore, ref: TurnRef) => store.read(ref.tenant, ref.conversation, 0, 1_000_000);

/** An end that another writer might tell. */
const anotherEnd = { ...anEnd, result: { ...anEnd.result, request_id: 'another' } };

/** Every write of the turn is refused and leaves no trace. */
async function isStale(store: TurnStore, ref: TurnRef): Promise<void> {
  const before = await all(store, ref);
  await rejects(store.append(ref, at, [aText('late')]), StaleEpochError);
  await rejects(store.append(ref, at, []), StaleEpochError);
  await rejects(store.append(ref, at, [], 'waiting'), StaleEpochError);
  await rejects(store.begin(ref, at), StaleEpochError);
  await rejects(store.count(ref, { batches: 9, activeMs: 9 }), StaleEpochError);
  await rejects(store.finish(ref, anotherEnd), StaleEpochError);
  deepStrictEqual(await all(store, ref), before);
}

const promises: Promises<TurnStore> = {
  'an accepted turn has its events from 1 on': async (store) => {
    const { ref, events } = await store.accept(anAccept('c', 'default', [aText('a'), aText('b')]));
    deepStrictEqual({ ...ref }, { tenant: 'default', conversation: 'c', turn: 'turn of c', epoch: ref.epoch });
    deepStrictEqual(events, [
      { seq: 1, turn: ref.turn, at: 1_700_000_000_000, body: aText('a') },
      { seq: 2, turn: ref.turn, at: 1_700_000_000_000, body: aText('b') },
    ]);
    deepStrictEqual(await all(store, ref), events);
  },

  'a conversation id is taken once, and the second acceptance leaves nothing': async (store) => {
    const { ref } = await store.accept(anAccept('c', 'default', [aText('first')]));
    const second = anAccept('c', 'default', [aText('second')]);
    await rejects(
      store.accept({ ...second, turn: 'other', conversation: { ...second.conversation, sdkSession: 'other' } }),
      /exists already/,
    );
    deepStrictEqual(texts(await all(store, ref)), [[1, 'first']]);
    strictEqual((await store.takeUnfinished('node-2')).length, 1);
  },

  'an acceptance that fails half-way leaves nothing': async (store) => {
    await store.accept(anAccept('c'));
    await rejects(store.accept({ ...anAccept('d', 'default', [aText('x')]), turn: 'turn of c' }));
    deepStrictEqual(await store.read('default', 'd', 0, 10), []);
    const { ref } = await store.accept(anAccept('d'));
    await store.append(ref, at, [aText('y')]);
  },

  'two conversations never share a session of Claude Code': async (store) => {
    const { conversation } = anAccept('c');
    await store.accept(anAccept('c'));
    const other = anAccept('d');
    await rejects(
      store.accept({ ...other, conversation: { ...other.conversation, sdkSession: conversation.sdkSession } }),
    );
  },

  'appended events follow without a gap': async (store) => {
    const { ref } = await store.accept(anAccept('c', 'default', [aText('a')]));
    await store.begin(ref, at);
    deepStrictEqual(texts(await store.append(ref, at, [aText('b'), aText('c')])), [
      [2, 'b'],
      [3, 'c'],
    ]);
    deepStrictEqual(await store.append(ref, at, []), []);
    deepStrictEqual(texts(await store.append(ref, at, [aText('d')])), [[4, 'd']]);
    deepStrictEqual(texts(await all(store, ref)), [
      [1, 'a'],
      [2, 'b'],
      [3, 'c'],
      [4, 'd'],
    ]);
  },

  '50 appends at once keep the order of the calls, beside those of another conversation': async (store) => {
    const { ref } = await store.accept(anAccept('c'));
    const { ref: other } = await store.accept(anAccept('d'));
    const expected = Array.from({ length: 50 }, (_, index) => [index + 1, `${index}`]);
    const appended = await Promise.all(
      expected.flatMap(([, text]) => [
        store.append(ref, at, [aText(String(text))]),
        store.append(other, at, [aText(String(text))]),
        store.read('default', 'c', 0, 1),
      ]),
    );
    deepStrictEqual(texts(appended.flatMap((events, index) => (index % 3 === 0 ? events : []))), expected);
    deepStrictEqual(texts(await all(store, ref)), expected);
    deepStrictEqual(texts(await all(store, other)), expected);
  },

  'appends called at any point of another one keep the order of the calls': async (store) => {
    const { ref } = await store.accept(anAccept('c'));
    const pending: Promise<unknown>[] = [];
    for (let index = 0; index < 200; index += 1) {
      pending.push(store.append(ref, at, [aText(String(index))]));
      if (index % 3 === 0) pending.push(store.read('default', 'c', 0, 1));
      for (let tick = 0; tick < (index * 7) % 23; tick += 1) await Promise.resolve();
    }
    await Promise.all(pending);
    deepStrictEqual(
      texts(await all(store, ref)),
      Array.from({ length: 200 }, (_, index) => [index + 1, String(index)]),
    );
  },

  'more events than one statement holds are appended at once': async (store) => {
    const { ref } = await store.accept(anAccept('c'));
    const bodies = Array.from({ length: 10_001 }, (_, index) => aText(String(index)));
    const events = await store.append(ref, at, bodies);
    deepStrictEqual(await all(store, ref), events);
    strictEqual(events.at(-1)?.seq, 10_001);
  },

  'reading starts after a place and stops at the limit': async (store) => {
    const { ref } = await store.accept(anAccept('c', 'default', ['a', 'b', 'c', 'd'].map(aText)));
    deepStrictEqual(texts(await store.read('default', 'c', 1, 2)), [
      [2, 'b'],
      [3, 'c'],
    ]);
    deepStrictEqual(await store.read('default', 'c', 4, 2), []);
    deepStrictEqual(await store.read('default', 'unknown', 0, 2), []);
    deepStrictEqual(await store.read('unknown', ref.conversation, 0, 2), []);
  },

  'a turn ends exactly once, and nothing is written after it': async (store) => {
    const { ref } = await store.accept(anAccept('c', 'default', [aText('a')]));
    await store.begin(ref, at);
    const outcomes = await Promise.allSettled([store.finish(ref, anEnd), store.finish(ref, anotherEnd)]);
    deepStrictEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'rejected'],
    );
    deepStrictEqual(await store.read('default', 'c', 1, 10), [
      { seq: 2, turn: ref.turn, at: anEnd.at, body: { type: 'result', result: anEnd.result, code: null } },
    ]);
    await isStale(store, ref);
    deepStrictEqual(await store.takeUnfinished('node-2'), []);
  },

  'an end that is told again, as its answer was lost, is the same end': async (store) => {
    const { ref } = await store.accept(anAccept('c', 'default', [aText('a')]));
    const event = await store.finish(ref, anEnd);
    deepStrictEqual(await store.finish(ref, { ...anEnd, at: anEnd.at + 1 }), event);
    strictEqual((await all(store, ref)).length, 2);
    await rejects(store.finish({ ...ref, epoch: ref.epoch + 1 }, anEnd), StaleEpochError);
    const next = await store.acceptNext(aNext('c', 'another turn'));
    deepStrictEqual(await store.finish(ref, anEnd), event);
    strictEqual((await all(store, ref)).length, 3);
    strictEqual((await store.takeUnfinished('node-2'))[0]?.turn.ref.turn, next?.ref.turn);
  },

  'a turn can end before it began': async (store) => {
    const { ref } = await store.accept(anAccept('c'));
    const event = await store.finish(ref, { ...anEnd, state: 'failed', code: 'agent_crashed' });
    strictEqual(event.seq, 1);
    await isStale(store, ref);
  },

  'unfinished turns are taken over, and their old references are refused': async (store) => {
    const { ref: accepted } = await store.accept(anAccept('a'));
    const { ref: running } = await store.accept(anAccept('b', 'other', [aText('x')]));
    const { ref: ended } = await store.accept(anAccept('c'));
    await store.begin(running, at);
    await store.finish(ended, anEnd);
    const taken = await store.takeUnfinished('node-2');
    deepStrictEqual(taken.map(({ turn }) => turn.ref.conversation).toSorted(), ['a', 'b']);
    await isStale(store, accepted);
    await isStale(store, running);
    for (const { ref } of taken.map(({ turn }) => turn)) {
      notStrictEqual(ref.epoch, accepted.epoch);
      await store.begin(ref, at);
      await store.append(ref, at, [aText('y')]);
    }
    const again = await store.takeUnfinished('node-2');
    strictEqual(again.length, 2);
    for (const { turn } of taken) await isStale(store, turn.ref);
    for (const { turn } of again) await store.finish(turn.ref, { ...anEnd, state: 'interrupted' });
    deepStrictEqual(await store.takeUnfinished('node-2'), []);
    deepStrictEqual(texts(await store.read('other', 'b', 0, 10)), [
      [1, 'x'],
      [2, 'y'],
      [3, 'result'],
    ]);
  },

  'a reference with any part of another turn writes nothing': async (store) => {
    const { ref } = await store.accept(anAccept('c'));
    const { ref: other } = await store.accept(anAccept('d'));
    await store.accept(anAccept('c', 'other'));
    const wrong: Partial<TurnRef>[] = [
      { turn: other.turn },
      { conversation: other.conversation },
      { tenant: 'nobody' },
      { turn: 'unknown' },
      { conversation: 'unknown' },
      { epoch: ref.epoch + 1 },
      { epoch: ref.epoch - 1 },
    ];
    for (const part of wrong) await isStale(store, { ...ref, ...part });
    deepStrictEqual(await store.read('default', 'd', 0, 10), []);
    await store.finish(ref, anEnd);
    await store.finish(other, anEnd);
  },

  'equal ids of different tenants never meet': async (store) => {
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), run(store)), { numRuns: 20 });
  },

  'awkward JSON comes back as it was': async (store) => {
    const { ref } = await store.accept({ ...anAccept('c'), request: awkwardJson });
    for (const input of awkwardJson) await store.append(ref, at, [aToolStart(input)]);
    const inputs = (await all(store, ref)).map(({ body }) => (body.type === 'tool_start' ? body.input : null));
    deepStrictEqual(inputs, awkwardJson);
    strictEqual(({} as Record<string, unknown>)['polluted'], undefined);
  },

  'what cannot be stored is refused and the turn goes on': async (store) => {
    const { ref } = await store.accept(anAccept('c'));
    const input: Record<string, unknown> = {};
    input['self'] = input;
    await rejects(store.append(ref, at, [aToolStart(input)]));
    deepStrictEqual(texts(await store.append(ref, at, [aText('a')])), [[1, 'a']]);
  },

  'a store that takes writes passes its check': async (store) => {
    await store.check();
    await store.check();
  },
};

type Step = readonly ['accept' | 'append' | 'finish' | 'take', tenant: string, conversation: string];

const step: fc.Arbitrary<Step> = fc.tuple(
  fc.constantFrom('accept', 'append', 'append', 'finish', 'take'),
  fc.constantFrom('red', 'blue', "red' or ''='"),
  fc.constantFrom('c1', 'c2'),
);

let runs = 0;

/** Does the steps on the store and on a map, and finds the same events in both. */
function run(store: TurnStore): (steps: readonly Step[]) => Promise<void> {
  return async (steps) => {
    runs += 1;
    const model = new Map<string, { ref: TurnRef; events: unknown[][]; ended: boolean }>();
    for (const [index, [action, tenant, name]] of steps.entries()) {
      const conversation = `${name} of run ${runs}`;
      const known = model.get(`${tenant} ${conversation}`);
      const text = `${tenant} ${index}`;
      if (action === 'accept' && !known) {
        const { ref } = await store.accept(anAccept(conversation, tenant, [aText(text)]));
        model.set(`${tenant} ${conversation}`, { ref, events: [[1, text]], ended: false });
      } else if (action === 'append' && known && !known.ended) {
        await store.append(known.ref, at, [aText(text)]);
        known.events.push([known.events.length + 1, text]);
      } else if (action === 'finish' && known && !known.ended) {
        await store.finish(known.ref, anEnd);
        known.events.push([known.events.length + 1, 'result']);
        known.ended = true;
      } else if (action === 'take') {
        for (const { ref } of (await store.takeUnfinished('node-2')).map(({ turn }) => turn)) {
          const taken = model.get(`${ref.tenant} ${ref.conversation}`);
          if (taken) taken.ref = ref;
        }
      }
    }
    for (const { ref, events } of model.values()) deepStrictEqual(texts(await all(store, ref)), events);
  };
}
