import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { generatedDocs } from '../../tools/generate-docs.ts';

const root = new URL('../../', import.meta.url);

test('the generated reference pages are those of the contract', () => {
  for (const [path, text] of Object.entries(generatedDocs())) {
    assert.ok(readFileSync(new URL(path, root), 'utf8') === text, `${path} is stale. Run: node tools/generate-docs.ts`);
  }
});

test('the OpenAPI document has no lint errors', () => {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [
      'node_modules/@redocly/cli/bin/cli.js',
      'lint',
      'docs/reference/openapi.json',
      '--config',
      'test/guards/redocly.yaml',
    ],
    {
      cwd: fileURLToPath(root),
      env: { PATH: process.env['PATH'] ?? '', REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' },
      encoding: 'utf8',
    },
  );
  assert.equal(status, 0, `${stdout}\n${stderr}`);
});
