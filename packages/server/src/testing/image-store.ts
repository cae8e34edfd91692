import { deepStrictEqual, rejects } from 'node:assert/strict';
import { StaleEpochError, type TurnRef } from '../engine/ports.ts';
import { declare, type ConversationStores, type MakeStore, type Promises } from './contract.ts';
import { aNext, anAccept, anEnd } from './turns.ts';

/** What every `ImageStore` promises. */
export function imageStoreContract(makeStores: MakeStore<ConversationStores>): void {
  declare('image store', promises, makeStores);
}

const promises: Promises<ConversationStores> = {
  'a file is kept as it was before its first change, and as the turn left it': async ({ turns, images }) => {
    const { ref } = await turns.accept(anAccept('c'));
    await images.before(ref, 'b.txt', 'old');
    await images.before(ref, 'a.txt', null);
    await images.before(ref, 'b.txt', 'changed once');
    deepStrictEqual(await images.ofConversation('default', 'c'), [
      { path: 'a.txt', before: null, after: null, settled: false },
      { path: 'b.txt', before: 'old', after: null, settled: false },
    ]);
    const files = [
      { path: 'a.txt', content: 'made' },
      { path: 'b.txt', content: null },
      { path: 'unknown.txt', content: 'x' },
    ];
    await turns.finish(ref, { ...anEnd, files });
    deepStrictEqual(await images.ofConversation('default', 'c'), [
      { path: 'a.txt', before: null, after: 'made', settled: true },
      { path: 'b.txt', before: 'old', after: null, settled: true },
    ]);
  },

  'a turn that changes a file again unsettles it, and what it was before stays': async ({ turns, images }) => {
    const { ref } = await turns.accept(anAccept('c'));
    for (const path of ['a', 'b']) await images.before(ref, path, 'old');
    const files = ['a', 'b'].map((path) => ({ path, content: 'new' }));
    await turns.finish(ref, { ...anEnd, files });
    const next = (await turns.acceptNext(aNext('c', 'next')))?.ref as TurnRef;
    await images.before(next, 'a', 'new');
    const cut = [
      { path: 'a', before: 'old', after: 'new', settled: false },
      { path: 'b', before: 'old', after: 'new', settled: true },
    ];
    deepStrictEqual(await images.ofConversation('default', 'c'), cut);
    const paths = cut.map(({ path, settled }) => ({ path, settled }));
    deepStrictEqual(await images.pathsOf('default', 'c'), paths);
    deepStrictEqual(await images.pathsOf('other', 'c'), []);
    await turns.finish(next, { ...anEnd, state: 'interrupted' });
    deepStrictEqual(await images.ofConversation('default', 'c'), cut);
  },

  'any text and any path comes back as it was': async ({ turns, images }) => {
    const { ref } = await turns.accept(anAccept('c'));
    const text = `nul \u0000, half \ud800, quote ' " \\, \u202e 👩‍👩‍👧 ${'x'.repeat(1_000_000)}`;
    const path = `a/ü ' " \\ %.txt`;
    await images.before(ref, path, text);
    await images.before(ref, 'empty', '');
    await images.before(ref, 'null', 'null');
    await turns.finish(ref, { ...anEnd, files: [{ path, content: `${text}!` }] });
    deepStrictEqual(await images.ofConversation('default', 'c'), [
      { path, before: text, after: `${text}!`, settled: true },
      { path: 'empty', before: '', after: null, settled: false },
      { path: 'null', before: 'null', after: null, settled: false },
    ]);
  },

  'equal paths of other conversations and tenants are others': async ({ turns, images }) => {
    const names = [
      ['default', 'c'],
      ['default', 'd'],
      ['other', 'c'],
    ] as const;
    for (const [tenant, conversation] of names) {
      const { ref } = await turns.accept(anAccept(conversation, tenant));
      const content = `${tenant} ${conversation}`;
      await images.before(ref, 'file', content);
      await turns.finish(ref, { ...anEnd, files: [{ path: 'file', content: `${content}!` }] });
    }
    for (const [tenant, conversation] of names) {
      deepStrictEqual(await images.ofConversation(tenant, conversation), [
        { path: 'file', before: `${tenant} ${conversation}`, after: `${tenant} ${conversation}!`, settled: true },
      ]);
    }
    deepStrictEqual(await images.ofConversation('nobody', 'c'), []);
  },

  'a stale epoch, an ended turn and a deleted conversation keep nothing': async ({ turns, images, conversations }) => {
    const { ref } = await turns.accept(anAccept('c'));
    const stale = (of: TurnRef) => rejects(images.before(of, 'file', 'late'), StaleEpochError);
    await stale({ ...ref, epoch: ref.epoch + 1 });
    await stale({ ...ref, conversation: 'unknown' });
    await stale({ ...ref, tenant: 'other' });
    await turns.finish(ref, anEnd);
    await stale(ref);
    deepStrictEqual(await images.ofConversation('default', 'c'), []);
    await conversations.delete('default', 'c');
    await stale(ref);
  },
};
