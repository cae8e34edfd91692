import type { Violation } from './imports.ts';
import type { Source } from './source.ts';

export const MAX_LINES = 300;

/** A file or function that may be longer than the norm, and why. */
export interface SizeExceptions {
  files: { path: string; reason: string }[];
  /** Files in which a function is excused from the linter's bound by a comment. */
  functions: { path: string; reason: string }[];
}

/** Files over the norm, functions excused in a file that is not listed, and entries of the list that nothing needs. */
export function sizeViolations(files: Source[], exceptions: SizeExceptions): Violation[] {
  const long = files.filter(({ text }) => linesOf(text) > MAX_LINES);
  const excusing = files.filter(({ comments }) => /-disable\b[^\n]*max-lines-per-function/.test(comments));
  return [
    ...compare(long, exceptions.files, ({ text }) => `${linesOf(text)} lines; at most ${MAX_LINES}`),
    ...compare(
      excusing,
      exceptions.functions,
      () => 'a long function that test/guards/size-exceptions.json does not list',
    ),
  ];
}

function linesOf(text: string): number {
  return text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
}

function compare(found: Source[], listed: SizeExceptions['files'], say: (file: Source) => string): Violation[] {
  const violation = (path: string, detail: string) => ({ path, line: 1, rule: 'sizes', detail });
  return [
    ...found
      .filter(({ path }) => !listed.some((entry) => entry.path === path))
      .map((file) => violation(file.path, say(file))),
    ...listed
      .filter(({ path }) => !found.some((file) => file.path === path))
      .map(({ path }) => violation(path, 'listed in test/guards/size-exceptions.json without need; remove the entry')),
    ...listed
      .filter(({ reason }) => reason.trim() === '')
      .map(({ path }) => violation(path, 'an exception without a reason')),
  ];
}
