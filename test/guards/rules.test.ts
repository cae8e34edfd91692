import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { importCycles, importViolations } from './imports.ts';
import { sizeViolations } from './sizes.ts';
import { importsOf, source } from './source.ts';
import { textViolations } from './text.ts';

const declared = {
  '': ['fast-check'],
  'packages/protocol': ['zod', 'ajv'],
  'packages/server': ['zod', 'fastify', 'kysely', 'pino', '@anthropic-ai/claude-agent-sdk'],
};

const server = (path: string) => `packages/server/src/${path}`;
const imports = (path: string, text: string) => importViolations(source(path, text), declared);
const texts = (path: string, text: string) => textViolations(source(path, text));

function assertRule(found: { rule: string; line: number }[], rule: string, line = 1) {
  assert.deepEqual(
    found.map((violation) => [violation.rule, violation.line]),
    [[rule, line]],
  );
}

describe('the reader of sources', () => {
  const forms = `import a from 'one';
import type { B } from "two"; // import x from 'no'
/* import y from 'no' */ export * from './three.ts';
import {
  c,
} from 'four';
import 'five';
const later = await import('six');
type T = import('seven').T;
const text = "import z from 'no'", template = \`import w from 'no' \${await import('eight')}\`;
const pattern = /['"\`]/; export type { D } from 'nine';
`;

  test('finds every form of import and nothing in comments, strings and patterns', () => {
    assert.deepEqual(
      importsOf(source('a.ts', forms)).map(({ specifier, line, typeOnly }) => [specifier, line, typeOnly]),
      [
        ['one', 1, false],
        ['two', 2, true],
        ['./three.ts', 3, false],
        ['four', 6, false],
        ['five', 7, false],
        ['six', 8, false],
        ['seven', 9, false],
        ['eight', 10, false],
        ['nine', 11, true],
      ],
    );
  });

  test('keeps every character at its place', () => {
    const { code, bare, comments } = source('a.ts', forms);
    for (const view of [code, bare, comments]) assert.equal(view.length, forms.length);
    assert.match(comments, /import x from 'no'/);
    assert.doesNotMatch(code, /no'/);
  });

  test('tells a division from a pattern, and braces in a template from its end', () => {
    const { code } = source('a.ts', "const a = b / c; const d = e(1) / 2; // '\nconst f = `${{ g: `}` }}h`; i;");
    assert.equal(code.split('\n')[0]!.trim(), 'const a = b / c; const d = e(1) / 2;');
    assert.equal(code.split('\n')[1], 'const f = `${{ g: ` ` }} `; i;');
  });
});

describe('imports', () => {
  const broken: [string, string, string][] = [
    ['packages/protocol/src/a.ts', "import fs from 'node:fs';", 'packages'],
    ['packages/protocol/src/a.ts', "import Ajv from 'ajv';", 'packages'],
    ['packages/simulator/src/a.ts', "import { z } from 'zod';", 'packages'],
    ['packages/simulator/src/a.ts', "import type { Event } from '@sallyport/protocol';", 'packages'],
    ['packages/client/src/a.ts', "import { events } from '@sallyport/protocol';", 'packages'],
    ['packages/console/src/a.ts', "import type { Event } from '@sallyport/protocol';", 'packages'],
    ['packages/unknown/src/a.ts', "import './b.ts';", 'packages'],
    [server('claude/runner.ts'), "import { start } from '@sallyport/simulator';", 'packages'],
    [server('http/app.ts'), "import { start } from '../../../simulator/src/index.ts';", 'packages'],
    [server('http/app.ts'), "import left from 'left-pad';", 'packages'],
    [server('engine/engine.ts'), "import type { Store } from '../stores/stores.ts';", 'levels'],
    [server('engine/engine.ts'), "import pino from 'pino';", 'levels'],
    [server('claude/runner.ts'), "const broker = await import('../broker/broker.ts');", 'levels'],
    [server('broker/broker.ts'), "export { x } from '../claude/runner.ts';", 'levels'],
    [server('http/app.ts'), "import { settings } from '../config/settings.ts';", 'levels'],
    [server('config/settings.ts'), "import { log } from '../observe/logger.ts';", 'levels'],
    [server('stores/sqlite.ts'), "import { compose } from '../compose.ts';", 'levels'],
    [server('cli/keys.ts'), "import { keys } from '../stores/keys.ts';", 'levels'],
    [server('helpers/strings.ts'), "import path from 'node:path';", 'levels'],
    [server('http/app.ts'), "import { query } from '@anthropic-ai/claude-agent-sdk';", 'owners'],
    [server('broker/broker.ts'), "import fastify from 'fastify';", 'owners'],
    [server('http/app.ts'), "import { sql } from 'kysely';", 'owners'],
    [server('broker/ledger.ts'), "import { DatabaseSync } from 'node:sqlite';", 'owners'],
    [server('engine/changes.ts'), "import { spawn } from 'child_process';", 'owners'],
    [server('http/app.ts'), "import { help } from './testing.ts';", 'test code'],
    [server('compose.ts'), "import { contract } from './testing/contract.ts';", 'test code'],
  ];
  for (const [path, text, rule] of broken) {
    test(`${path} may not: ${text}`, () => assertRule(imports(path, `// first\n${text}`), rule, 2));
  }

  const sound: [string, string][] = [
    ['packages/protocol/src/a.ts', "import { z } from 'zod';"],
    ['packages/simulator/src/a.ts', "import http from 'node:http';"],
    ['packages/client/src/a.ts', "import type { Event } from '@sallyport/protocol';"],
    [server('engine/engine.ts'), "import { codes } from '@sallyport/protocol';\nimport { posix } from 'node:path';"],
    [server('claude/runner.ts'), "import { query } from '@anthropic-ai/claude-agent-sdk';"],
    [
      server('claude/runner.ts'),
      "import { spawn } from 'node:child_process';\nimport type { A } from '../engine/ports.ts';",
    ],
    [server('compose.ts'), "import { start } from '@sallyport/simulator';\nimport { app } from './http/app.ts';"],
    [server('main.ts'), "import { compose } from './compose.ts';\nimport { settings } from './config/settings.ts';"],
    [server('engine/engine.test.ts'), "import fc from 'fast-check';\nimport { open } from '../stores/stores.ts';"],
    ['test/flows/query.test.ts', "import { start } from '../../packages/server/src/compose.ts';"],
  ];
  for (const [path, text] of sound) {
    test(`${path} may: ${text.replace('\n', ' ')}`, () => assert.deepEqual(imports(path, text), []));
  }
});

describe('loops', () => {
  test('a loop is found through packages and through imports of types', () => {
    const files = [
      source('packages/protocol/src/index.ts', "export * from './a.ts';"),
      source('packages/protocol/src/a.ts', "// first\nimport type { B } from './b.ts';"),
      source('packages/protocol/src/b.ts', "import { a } from '@sallyport/protocol';"),
      source('packages/protocol/src/c.ts', "import { a } from './a.ts';"),
    ];
    const [found, ...more] = importCycles(files);
    assert.deepEqual(more, []);
    assert.match(found!.detail, /index\.ts → .*a\.ts → .*b\.ts → .*index\.ts$/);
  });

  test('two ways to one file are no loop', () => {
    const files = [
      source('a.ts', "import './b.ts';\nimport './c.ts';"),
      source('b.ts', "import './c.ts';"),
      source('c.ts', ''),
    ];
    assert.deepEqual(importCycles(files), []);
  });
});

describe('texts', () => {
  const broken: [string, string, string][] = [
    [server('http/app.ts'), 'const port = process.env.PORT;', 'environment'],
    [server('http/app.ts'), "const port = process['env'].PORT;", 'environment'],
    [server('http/app.ts'), 'const { env } = process;', 'environment'],
    [server('http/app.ts'), "import { env } from 'node:process';", 'environment'],
    [server('http/app.ts'), "import process from 'node:process';", 'environment'],
    [server('http/app.ts'), 'const now = Date.now();', 'clock'],
    [server('http/app.ts'), 'const now = new Date();', 'clock'],
    [server('http/app.ts'), 'const now = new Date;', 'clock'],
    [server('http/app.ts'), 'const now = Date();', 'clock'],
    [server('http/app.ts'), 'const now = `${performance.now()}`;', 'clock'],
    [server('broker/retry.ts'), 'const jitter = Math.random();', 'randomness'],
    [server('broker/tokens.ts'), 'const token = crypto.randomBytes(32);', 'randomness'],
    ['tools/run.mjs', "spawn('ls', { shell: true });", 'shell'],
    ['tools/run.mjs', "import { execSync } from 'node:child_process';", 'shell'],
    ['tools/run.mjs', "import * as child from 'child_process'; child.exec('ls');", 'shell'],
    ['test/flows/a.test.ts', "test.skip('later', () => {});", 'no skipped tests'],
    ['test/flows/a.test.ts', '// @ts-ignore', 'silenced checks'],
    ['test/flows/a.test.ts', '// oxlint-disable-next-line no-await-in-loop', 'silenced checks'],
    [server('claude/hooks.ts'), "try { a(); } catch { if (b) { c({ d: 'allow' }); } }", 'fail closed'],
    [server('engine/policy.ts'), 'try { a(); } catch (error) { allow(); }', 'fail closed'],
    [server('http/auth.ts'), 'a().catch(() => ({ allowed: true }));', 'fail closed'],
  ];
  for (const [path, text, rule] of broken) {
    test(`${path} may not: ${text}`, () => assertRule(texts(path, `// first\n${text}`), rule, 2));
  }

  const sound: [string, string][] = [
    [server('config/settings.ts'), 'const port = process.env.PORT;'],
    [server('http/app.ts'), '// process.env.PORT\nconst text = "Date.now()"; const at = new Date(clock.now());'],
    [server('http/app.test.ts'), 'const now = Date.now(); const id = randomUUID();'],
    [server('engine/clock.ts'), 'const now = Date.now();'],
    [server('engine/ids.ts'), "import { randomBytes } from 'node:crypto';"],
    [server('stores/sqlite.ts'), "database.exec('pragma foreign_keys'); /x/.exec(text);"],
    [
      server('claude/slots.ts'),
      "import { execFile, execFileSync } from 'node:child_process'; spawn('ls', { shell: false });",
    ],
    [server('claude/hooks.ts'), "try { return 'allow'; } catch { return deny('not allowed'); }"],
    ['test/flows/a.test.ts', '// @ts-expect-error -- a wrong argument on purpose'],
  ];
  for (const [path, text] of sound) {
    test(`${path} may: ${text.replace('\n', ' ')}`, () => assert.deepEqual(texts(path, text), []));
  }
});

describe('sizes', () => {
  const long = source('long.ts', 'a\n'.repeat(301));
  const excused = source('excused.ts', '// oxlint-disable-next-line max-lines-per-function -- a table\n');

  test('a file over the norm is found, and one on the list is not', () => {
    assertRule(sizeViolations([long], { files: [], functions: [] }), 'sizes');
    assert.deepEqual(sizeViolations([long], { files: [{ path: 'long.ts', reason: 'a table' }], functions: [] }), []);
    assert.deepEqual(sizeViolations([source('a.ts', 'a\n'.repeat(300))], { files: [], functions: [] }), []);
  });

  test('a long function excused by a comment has to be on the list', () => {
    assertRule(sizeViolations([excused], { files: [], functions: [] }), 'sizes');
    assert.deepEqual(
      sizeViolations([excused], { files: [], functions: [{ path: 'excused.ts', reason: 'a table' }] }),
      [],
    );
  });

  test('an entry that nothing needs and one without a reason are found', () => {
    assertRule(sizeViolations([], { files: [{ path: 'gone.ts', reason: 'a table' }], functions: [] }), 'sizes');
    assertRule(sizeViolations([], { files: [], functions: [{ path: 'gone.ts', reason: 'a table' }] }), 'sizes');
    assertRule(sizeViolations([long], { files: [{ path: 'long.ts', reason: ' ' }], functions: [] }), 'sizes');
  });
});
