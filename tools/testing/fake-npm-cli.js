// Stands in for npm: notes each call, and installs what the test says in FAKE_NPM (a JSON object).
import { appendFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const {
  notes,
  node,
  packageName,
  delayMs = 0,
  output = '',
  exitCode = 0,
  installs = true,
} = JSON.parse(process.env.FAKE_NPM);
const folder = basename(process.cwd());
const note = (what) =>
  appendFileSync(
    notes,
    `${JSON.stringify({
      what,
      folder,
      pid: process.pid,
      version: process.version,
      args: process.argv.slice(2),
      proxy: process.env.HTTPS_PROXY,
    })}\n`,
  );

note('begin');
await new Promise((resolve) => setTimeout(resolve, delayMs));
process.stdout.write(output);
if (installs && exitCode === 0) {
  rmSync('node_modules', { recursive: true, force: true });
  mkdirSync('node_modules');
  if (folder === 'node-pin') {
    const installed = join('node_modules', packageName);
    mkdirSync(installed);
    mkdirSync(join(installed, 'bin'));
    writeFileSync(join(installed, 'package.json'), JSON.stringify({ version: node.version }));
    symlinkSync(node.path, join(installed, 'bin', 'node'));
  }
}
note('end');
process.exitCode = exitCode;
