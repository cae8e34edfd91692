import type { Terminal } from './command.ts';

/** Text of others as it may be shown: nothing in it steers the terminal. */
export const plain = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\u{fffd}');

/** Writes a list as JSON when that is asked for, else as a table with a line of titles. */
export function printList<T>(
  { out }: Pick<Terminal, 'out'>,
  { json }: Readonly<Record<string, unknown>>,
  items: readonly T[],
  columns: Readonly<Record<string, (item: T) => string>>,
): void {
  if (json) {
    out.write(`${JSON.stringify(items, null, 2)}\n`);
    return;
  }
  const lines = [Object.keys(columns), ...items.map((item) => Object.values(columns).map((cell) => plain(cell(item))))];
  const widths = Object.keys(columns).map((_, at) => Math.max(...lines.map((cells) => cells[at]?.length ?? 0)));
  for (const cells of lines) {
    out.write(
      `${cells
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    );
  }
}

/** The same for what is one. */
export function printOne<T>(
  terminal: Pick<Terminal, 'out'>,
  options: Readonly<Record<string, unknown>>,
  item: T,
  columns: Readonly<Record<string, (item: T) => string>>,
): void {
  if (options['json']) terminal.out.write(`${JSON.stringify(item, null, 2)}\n`);
  else printList(terminal, options, [item], columns);
}
