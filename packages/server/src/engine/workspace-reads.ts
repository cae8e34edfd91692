import type { RunResult } from '@sallyport/protocol';
import { parsePatch } from 'diff';
import { logOf, visible } from './conversations.ts';
import type { Engine, EngineParts } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { StoredConversation } from './ports.ts';
import { fileDiff } from './preview.ts';

/** Most files that are listed. */
const maxFiles = 10_000;
/** Longest diff, in characters. */
const maxDiffChars = 1_000_000;

const filesOf = ({ tenant, sdkSession, profile }: StoredConversation) => ({
  tenant,
  session: sdkSession,
  projectPath: profile.projectPath,
});

/** Files that commands changed before any edit tool did: they are named, but nobody has seen how they were. */
function unseen(results: readonly RunResult[]): Set<string> {
  const named = new Set<string>();
  const found = new Set<string>();
  for (const { changes, changed_paths: paths } of results) {
    const patches = parsePatch(changes ?? '');
    const seen = new Set(patches.flatMap(({ oldFileName = '', newFileName = '' }) => [oldFileName, newFileName]));
    for (const path of paths) {
      if (!named.has(path) && !seen.has(`a/${path}`) && !seen.has(`b/${path}`)) found.add(path);
      named.add(path);
    }
  }
  return found;
}

/** What can be read of a conversation's workspace. */
export function workspaceReads(parts: EngineParts): Pick<Engine, 'diff' | 'files' | 'file'> {
  return {
    async diff(principal, id) {
      const { tenant } = await visible(parts, principal, id);
      const images = await parts.images.ofConversation(tenant, id);
      const results = (await logOf(parts, tenant, id)).flatMap(({ body }) =>
        body.type === 'result' ? [body.result] : [],
      );
      const changed = new Set<string>();
      let diff = '';
      let truncated = results.some((result) => result.changes_truncated);
      for (const { path, before, after, settled } of images) {
        if (!settled) truncated = true;
        const patch = settled ? fileDiff(path, before, after) : '';
        if (patch === '' && settled) continue;
        changed.add(path);
        if (diff.length + patch.length > maxDiffChars) truncated = true;
        else diff += patch;
      }
      const known = new Set(images.map(({ path }) => path));
      for (const path of unseen(results)) {
        if (!known.has(path)) changed.add(path);
        truncated = true;
      }
      return {
        session_id: id,
        changes: diff === '' ? null : diff,
        changes_truncated: truncated,
        changed_paths: [...changed].toSorted(),
      };
    },
    async files(principal, id) {
      return await parts.runner.files.list(filesOf(await visible(parts, principal, id)), maxFiles);
    },
    async file(principal, id, path) {
      const found = await parts.runner.files.open(filesOf(await visible(parts, principal, id)), path);
      if (found === null) throw new SallyportError('file_not_found');
      return found;
    },
  };
}
