import { basename } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { isoTime } from '../../engine/clock.ts';
import type { Engine } from '../../engine/engine.ts';
import { SallyportError } from '../../engine/errors.ts';
import { zipOf } from '../archive.ts';
import { attachmentHeaders, ExactSize, sendBytes } from '../attachments.ts';
import type { Handlers } from '../routes.ts';

const maxArchiveFiles = 10_000;
const maxArchiveBytes = 512 * 1024 * 1024;

/** The files of a conversation's workspace. */
export function fileHandlers(
  engine: Engine,
): Pick<Handlers, 'conversationFiles' | 'conversationFile' | 'conversationArchive'> {
  return {
    conversationFiles: async ({ principal, params }) => {
      const { files, more } = await engine.files(principal, params.session_id);
      const items = files.map(({ path, size, modifiedAt }) => ({ path, size, modified_at: isoTime(modifiedAt) }));
      return { items, more, next_cursor: null };
    },
    conversationFile: async ({ request, reply, principal, params }) => {
      const { size, content } = await engine.file(principal, params.session_id, params.path);
      reply.headers(attachmentHeaders('application/octet-stream', basename(params.path)));
      reply.header('content-length', String(size));
      if (request.method === 'HEAD') {
        content.destroy();
        return reply.send(Readable.from([]));
      }
      // What fails here fails the answer, too.
      return sendBytes(
        reply,
        pipeline(content, new ExactSize(size), () => undefined),
      );
    },
    conversationArchive: async ({ request, reply, principal, params }) => {
      const id = params.session_id;
      const { files, more } = await engine.files(principal, id);
      const bytes = files.reduce((sum, { size }) => sum + size, 0);
      if (more || files.length > maxArchiveFiles || bytes > maxArchiveBytes) throw new SallyportError('too_many_files');
      reply.headers(attachmentHeaders('application/zip', `${id}.zip`));
      if (request.method === 'HEAD') return reply.send(Readable.from([]));
      const open = (path: string) => engine.file(principal, id, path);
      return sendBytes(reply, zipOf(files, open, maxArchiveBytes));
    },
  };
}
