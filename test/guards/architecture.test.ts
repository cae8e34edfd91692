import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { importCycles, importViolations } from './imports.ts';
import type { Declared, Violation } from './imports.ts';
import exceptions from './size-exceptions.json' with { type: 'json' };
import { sizeViolations } from './sizes.ts';
import { repositoryFiles, repositorySources, ROOT } from './source.ts';
import { textViolations } from './text.ts';

const sources = repositorySources();

function declaredDependencies(): Declared {
  const manifests = repositoryFiles().filter((path) => path === 'package.json' || path.endsWith('/package.json'));
  return Object.fromEntries(
    manifests.map((path) => {
      const manifest = JSON.parse(readFileSync(join(ROOT, path), 'utf8')) as Record<string, Record<string, string>>;
      const kinds = ['dependencies', 'peerDependencies', 'optionalDependencies', 'devDependencies'];
      const names = kinds.flatMap((kind) => Object.keys(manifest[kind] ?? {}));
      return [path === 'package.json' ? '' : dirname(path), names];
    }),
  );
}

function none(violations: Violation[]) {
  const lines = violations.map(({ path, line, rule, detail }) => `${path}:${line}: ${rule}: ${detail}`);
  assert.equal(lines.length, 0, `\n${lines.join('\n')}`);
}

test('every file imports only what its package and its level may import', () => {
  const declared = declaredDependencies();
  none(sources.flatMap((file) => importViolations(file, declared)));
});

test('no imports run in a loop', () => none(importCycles(sources)));

test('environment, clock, randomness and shells are where they belong, and no failure leads to allow', () => {
  none(sources.flatMap(textViolations));
});

test('no file or function is longer than the norm but those on the list', () =>
  none(sizeViolations(sources, exceptions)));
