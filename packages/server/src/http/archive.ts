import { addAbortSignal, pipeline, type PassThrough, type Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { ZipFile } from 'yazl';
import type { Engine } from '../engine/engine.ts';
import { SallyportError } from '../engine/errors.ts';
import type { WorkspaceFile } from '../engine/ports.ts';
import { ExactSize } from './attachments.ts';

type Opened = Awaited<ReturnType<Engine['file']>>;

/** A name that unpacks below the place where the archive is unpacked, on any system. */
const entryName = (path: string): string => path.replaceAll('\\', '_').replace(/^([A-Za-z]):/, '$1_');

/** Opens a file; null when it has gone since it was listed. */
async function openedOrGone(open: (path: string) => Promise<Opened>, path: string): Promise<Opened | null> {
  try {
    return await open(path);
  } catch (error) {
    if (error instanceof SallyportError && error.code === 'file_not_found') return null;
    throw error;
  }
}

/** Adds one file after the other, so that one is open at a time. */
async function fill(
  zip: ZipFile,
  files: readonly WorkspaceFile[],
  open: (path: string) => Promise<Opened>,
  maxBytes: number,
  left: AbortSignal,
): Promise<void> {
  let bytes = 0;
  for (const { path, modifiedAt } of files) {
    left.throwIfAborted();
    const file = await openedOrGone(open, path);
    if (!file) continue;
    const content = pipeline(file.content, new ExactSize(file.size), () => undefined);
    addAbortSignal(left, content);
    bytes += file.size;
    if (bytes > maxBytes) {
      content.destroy();
      throw new Error('the files grew beyond the bound of an archive');
    }
    zip.addReadStream(content, entryName(path), { mtime: new Date(modifiedAt) });
    await finished(content);
  }
  zip.end();
}

/**
 * A zip archive of files, made as fast as it is read. A file that `open` does not find any more is left out; anything
 * else that fails, and more than `maxBytes` of content, fails the stream. Destroying it closes the file that is open.
 */
export function zipOf(
  files: readonly WorkspaceFile[],
  open: (path: string) => Promise<Opened>,
  maxBytes: number,
): Readable {
  const zip = new ZipFile();
  const archive = zip.outputStream as PassThrough;
  const left = new AbortController();
  archive.once('close', () => left.abort());
  zip.once('error', (error) => archive.destroy(error as Error));
  fill(zip, files, open, maxBytes, left.signal).catch((error: Error) => archive.destroy(error));
  return archive;
}
