import { lstat, readlink, realpath, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, sep } from 'node:path';
import { SallyportError } from './errors.ts';
import type { WorkspaceView } from './ports.ts';

/** Where a path leads. `sensitive`: inside the workspace, but to a file that can make programs run. */
export type Place = 'inside' | 'sensitive' | 'outside';

const maxLinks = 40;
/** Longer ones the system cannot look up. */
const maxNameBytes = 255;
const maxPathBytes = 4095;

/** True when the path is the root or below it. Both must be absolute and without `..`. */
export function isWithin(root: string, path: string): boolean {
  const rest = relative(root, path);
  return rest === '' || (rest !== '..' && !rest.startsWith(`..${sep}`) && !isAbsolute(rest));
}

/**
 * The real path of a requested project directory. Throws `path_not_allowed` when it does not exist, is no directory,
 * leaves every root through `..` or a link, or is one of the service's own directories; which of these is not said.
 */
export async function resolveProject(
  requested: string,
  roots: readonly string[],
  isProtected: (path: string) => boolean,
): Promise<string> {
  const refuse = (cause: string) => new SallyportError('path_not_allowed', { cause });
  if (!isAbsolute(requested)) throw refuse('not absolute');
  let real: string;
  try {
    real = await realpath(requested);
    if (!(await stat(real)).isDirectory()) throw refuse('not a directory');
  } catch (error) {
    throw error instanceof SallyportError ? error : new SallyportError('path_not_allowed', { cause: error });
  }
  if (!roots.some((root) => isWithin(root, real))) throw refuse('outside the roots');
  if (isProtected(real)) throw refuse('a directory of the service');
  return real;
}

/** Directories and files that make programs run: writing them is more than an edit. */
const sensitive = new Set([
  '.git',
  '.claude',
  '.mcp.json',
  '.vscode',
  '.idea',
  '.husky',
  '.gitmodules',
  '.gitconfig',
  '.envrc',
]);

/** False for a path that Claude Code reads as another one: it drops white space around a path and expands `~`. */
const isTakenAsItIs = (path: string) => path === path.trim() && !/^~(?:\/|$)/u.test(path) && !path.includes('\0');

/**
 * Follows a path component by component, links included, as it stands at this moment. The path is as Claude names it.
 * Answers `outside` as soon as it leaves the workspace or cannot be followed.
 */
export async function placeOf(view: WorkspaceView, path: string): Promise<Place> {
  if (!isTakenAsItIs(path)) return 'outside';
  const absolute = isAbsolute(path) ? path : join(view.root, path);
  if (!isWithin(view.root, absolute)) return 'outside';
  const parts = relative(view.root, absolute).split(sep);
  let current = view.hostRoot;
  for (let links = 0; parts.length > 0;) {
    const part = parts.shift() ?? '';
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (current === view.hostRoot) return 'outside';
      current = dirname(current);
      continue;
    }
    const next = join(current, part);
    if (Buffer.byteLength(part) > maxNameBytes || Buffer.byteLength(next) > maxPathBytes) return 'outside';
    const target = await linkTarget(next);
    if (target === undefined) return 'outside';
    if (target === null) {
      current = next;
      continue;
    }
    if ((links += 1) > maxLinks) return 'outside';
    if (isAbsolute(target)) {
      if (!isWithin(view.root, target)) return 'outside';
      current = view.hostRoot;
      parts.unshift(...relative(view.root, target).split(sep));
    } else parts.unshift(...target.split(sep));
  }
  const names = relative(view.hostRoot, current).split(sep);
  return names.some((name) => sensitive.has(name.toLowerCase())) ? 'sensitive' : 'inside';
}

/**
 * Where a link leads; null when the path is no link or does not exist, undefined when it was changed just now. Any other
 * failure is thrown.
 */
async function linkTarget(path: string): Promise<string | null | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    if (code === 'EINVAL') return undefined; // a link no more
    throw error;
  }
}

type Input = Readonly<Record<string, unknown>>;

/** The paths a tool call names, as far as they must stay inside; null when its input is not what the tool takes. */
export function pathsOf(name: string, input: Input): string[] | null {
  const text = (field: string): string | null => (typeof input[field] === 'string' ? input[field] : null);
  switch (name) {
    case 'Read':
    case 'Edit':
    case 'Write': {
      const path = text('file_path');
      return path === null ? null : [path];
    }
    case 'NotebookEdit': {
      const path = text('notebook_path');
      return path === null ? null : [path];
    }
    case 'Grep':
    case 'Glob': {
      const path = input['path'] === undefined ? '.' : text('path');
      const pattern = text('pattern');
      if (path === null || pattern === null) return null;
      return name === 'Glob' ? [path, globBase(path, pattern)] : [path];
    }
    default:
      return [];
  }
}

/**
 * The longest part of a glob pattern that is a plain path. One that could climb or start anew after a wildcard or an
 * escape counts as outside.
 */
function globBase(path: string, pattern: string): string {
  if (/\\[./~]/u.test(pattern)) return '/..';
  const parts = pattern.split('/');
  const wild = parts.findIndex((part) => /[*?[{!(]/u.test(part));
  if (wild !== -1 && (pattern.includes('..') || /[{,(|][/~]/u.test(pattern))) return '/..';
  const base = (wild === -1 ? parts : parts.slice(0, wild)).join('/');
  if (isAbsolute(pattern)) return base === '' ? '/' : base;
  return join(path, base);
}

/** Where all the paths of a tool call lie: the worst of them. */
export async function placeOfCall(view: WorkspaceView, name: string, input: Input): Promise<Place> {
  const paths = pathsOf(name, input);
  if (paths === null) return 'outside';
  const places = await Promise.all(paths.map((path) => placeOf(view, path)));
  if (places.includes('outside')) return 'outside';
  return places.includes('sensitive') ? 'sensitive' : 'inside';
}
