import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorCatalogue, errorCodes } from '@sallyport/protocol';
import { isTestCode } from './imports.ts';
import { repositorySources } from './source.ts';

/** Codes of the contract that nothing answers with yet. One that comes into use must leave this list. */
const unused: readonly string[] = [];

test('every error code is documented with its status and sentence, and no other', () => {
  const page = readFileSync(new URL('../../docs/reference/errors.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `(\w+)` *\| (\d+) *\| (yes|no) *\| (.*?) *\|$/gm)];
  const documented = rows.map(([, code, status, retryable, detail]) => [
    code,
    Number(status),
    retryable === 'yes',
    detail,
  ]);
  const expected = errorCodes.map((code) => {
    const { status, retryable, detail } = errorCatalogue[code];
    return [code, status, retryable, detail];
  });
  assert.deepEqual(new Set(documented), new Set(expected), 'run: node tools/generate-docs.ts');
});

test('every error code is one that the server answers with, or is listed as unused', () => {
  const production = repositorySources().filter(
    ({ path }) => path.startsWith('packages/server/src/') && !isTestCode(path),
  );
  const text = production.map(({ bare }) => bare).join('\n');
  const missing = errorCodes.filter((code) => !text.includes(`'${code}'`));
  assert.deepEqual(missing.toSorted(), [...unused].toSorted());
});

test('a public sentence of the catalogue names no path and no part of the code', () => {
  for (const code of errorCodes) {
    assert.doesNotMatch(
      errorCatalogue[code].detail,
      /(^|\s)\/(?!api\/)|[A-Z]_[A-Z]|\bstack\b|\.ts\b|\bundefined\b/,
      code,
    );
  }
});
