import { createTwoFilesPatch } from 'diff';
import { relative, resolve } from 'node:path';
import type { ToolCall, WorkspaceView } from './ports.ts';

/** Longest diff that a human is shown, in characters. */
const maxChars = 200_000;

/** A unified diff of one file; null on either side: there is none. Empty when nothing differs. */
export function fileDiff(path: string, before: string | null, after: string | null): string {
  if (before === after) return '';
  return createTwoFilesPatch(
    before === null ? '/dev/null' : `a/${path}`,
    after === null ? '/dev/null' : `b/${path}`,
    before ?? '',
    after ?? '',
  ).replace(/^=+\n/u, '');
}

/** The path of a file relative to the workspace. */
export const pathInside = (view: WorkspaceView, path: string): string => relative(view.root, resolve(view.root, path));

function edited(before: string, input: ToolCall['input']): string | null {
  const { old_string: from, new_string: to, replace_all: all } = input;
  if (typeof from !== 'string' || typeof to !== 'string') return null;
  if (from === '') return before === '' ? to : null;
  if (!before.includes(from)) return null;
  // As a function: the new text may hold `$`.
  return all === true ? before.replaceAll(from, () => to) : before.replace(from, () => to);
}

/**
 * What a call would change, as a unified diff. Null when that cannot be told: other tools, a file that is too large or
 * no text, an edit that does not fit the file.
 */
export async function previewOf(call: ToolCall, view: WorkspaceView): Promise<string | null> {
  const { file_path: path, content } = call.input;
  if (typeof path !== 'string' || (call.name !== 'Edit' && call.name !== 'Write')) return null;
  let before: string | null;
  try {
    before = await view.readFile(path);
  } catch {
    return null; // The human is shown the exact input in any case.
  }
  const after = call.name === 'Edit' ? edited(before ?? '', call.input) : typeof content === 'string' ? content : null;
  if (after === null) return null;
  const diff = fileDiff(pathInside(view, path), before, after);
  return diff.length > maxChars ? null : diff;
}
