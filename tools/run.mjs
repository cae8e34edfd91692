#!/usr/bin/env node
// Runs the repository's programs under the pinned Node.js, and installs what is missing first.
// Plain JavaScript without dependencies: it has to start on a fresh clone, under any Node.js from 18 on.
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { runProgram } from './lib/child.mjs';
import { prepare } from './lib/install.mjs';
import { Readable, say } from './lib/say.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const USAGE = `usage: node tools/run.mjs <command>
  start [options]        the server
  test [files] [options] the test suite
  exec <file> [args]     any other program of the repository`;

/** What to run for the given arguments: the file and its arguments, or a usage error. */
function programFor([command, ...given]) {
  const rest = given[0] === '--' ? given.slice(1) : given;
  if (command === 'start') return [join(ROOT, 'packages', 'server', 'src', 'main.ts'), 'serve', ...rest];
  if (command === 'test') return [join(ROOT, 'tools', 'test.mjs'), ...rest];
  if (command === 'exec' && rest.length > 0) {
    const file = resolve(rest[0]);
    if (existsSync(file)) return [file, ...rest.slice(1)];
    throw new Readable(`there is no file ${file}`, 2);
  }
  throw new Readable(
    `${command === undefined ? 'no command' : `unknown command: ${process.argv.slice(2).join(' ')}`}\n${USAGE}`,
    2,
  );
}

try {
  const program = programFor(process.argv.slice(2));
  const { node, env } = await prepare(ROOT, process.env);
  process.exitCode = await runProgram(node, program, env);
} catch (error) {
  if (!(error instanceof Readable)) throw error;
  say(error.message);
  process.exitCode = error.exitCode;
}
