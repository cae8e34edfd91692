import { relative } from 'node:path';

let atLineStart = true;

/** Shows a piece of text as it comes. */
export function piece(text: string): void {
  if (text === '') return;
  process.stdout.write(text);
  atLineStart = text.endsWith('\n');
}

/** Shows a text on a line of its own. */
export function line(text: string): void {
  piece(`${atLineStart ? '' : '\n'}${text}\n`);
}

/** Shows a unified diff without its head. */
export function showDiff(diff: string | null): void {
  const lines = (diff ?? '(what it would change cannot be told)').trimEnd().split('\n');
  const head = /^(?:diff |index |new file |--- |\+\+\+ |@@ |\\ )/u;
  for (const each of lines.filter((text) => !head.test(text))) line(`  | ${each}`);
}

/** Shows a tool call that begins, with the file of the project that it is about. */
export function showTool(name: string, input: unknown, project: string): void {
  const { file_path: path } = input as { readonly file_path?: string };
  line(path === undefined ? `  [${name}]` : `  [${name} ${relative(project, path)}]`);
}
