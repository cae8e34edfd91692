import { Readable } from 'node:stream';
import type { TestEngine } from './engine-support.ts';
import { bearer } from './testing.ts';

/** Support for the tests of a workspace's files. */

export const base = '/api/claude/conversation/conv-1';
export const get = (path: string) => ({ url: `${base}${path}`, headers: bearer('viewer') });
export const text = (content: string) => () => ({
  size: Buffer.byteLength(content),
  content: Readable.from([content]),
});

/** Opens files that are held open until they are read or closed, and counts those that are. */
export function counted(
  engine: TestEngine,
  path: string,
  chunks: () => Iterable<string> | AsyncIterable<string>,
  size: number,
) {
  const state = { opened: 0, open: 0 };
  engine.workspace[path] = () => {
    state.opened += 1;
    state.open += 1;
    const content = Readable.from(chunks());
    content.once('close', () => (state.open -= 1));
    return { size, content };
  };
  return state;
}
