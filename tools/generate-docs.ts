import { readFileSync, writeFileSync } from 'node:fs';
import { errorCatalogue, openApiDocument } from '@sallyport/protocol';

/** Writes the reference pages that are made from code. Run it after the contract has changed. */

const root = new URL('..', import.meta.url);

const { version } = JSON.parse(readFileSync(new URL('packages/server/package.json', root), 'utf8')) as {
  version: string;
};

/** A table with columns of equal width, as the formatter writes it. */
function table(rows: readonly (readonly string[])[]): string[] {
  const [head = []] = rows;
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.slice(1).map(line)];
}

function errorPage(): string {
  const rows = Object.entries(errorCatalogue)
    .toSorted(([, a], [, b]) => a.status - b.status)
    .map(([code, { status, retryable, detail }]) => [`\`${code}\``, `${status}`, retryable ? 'yes' : 'no', detail]);
  return [
    '# Errors',
    '',
    'Every error is one JSON object: `detail`, `code`, `request_id` and `retryable`. `detail` is the sentence below or a more',
    'exact one; for `validation_failed` it is a list with one `{loc, msg, type}` for each field that is wrong, for',
    '`rate_limited` an object of `error`, `limits` and `retry_after`. `retryable` says whether the same request may succeed',
    'later without being changed; where the service knows when, the answer has `Retry-After`, in seconds. What fails after a',
    'stream has begun comes as its last event, with `error` and the same `code`.',
    '',
    ...table([['code', 'status', 'retryable', 'detail'], ...rows]),
    '',
  ].join('\n');
}

/** The generated pages by their path in the repository. */
export function generatedDocs(): Readonly<Record<string, string>> {
  return {
    'docs/reference/openapi.json': `${JSON.stringify(openApiDocument(version), null, 2)}\n`,
    'docs/reference/errors.md': errorPage(),
  };
}

if (import.meta.main) {
  for (const [path, text] of Object.entries(generatedDocs())) writeFileSync(new URL(path, root), text);
}
