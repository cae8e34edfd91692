import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { Readable } from './say.mjs';

/** The program loader that the platform packages' binaries need; without it (musl) they do not start. */
const LOADERS = { 'linux-x64': '/lib64/ld-linux-x86-64.so.2', 'linux-arm64': '/lib/ld-linux-aarch64.so.1' };

/**
 * What is known about the pinned Node of this repository.
 * @param {string} root the repository
 * @returns {{version: string, folder: string, node: string, packageName: string | undefined, own: boolean}}
 *   `node` is the executable to use, `own` true when it is the current one because no package fits this machine
 * @throws {Readable} when no package fits and the current Node is older than the pinned major
 */
export function pinnedNode(root) {
  const folder = join(root, 'tools', 'node-pin');
  const manifest = readJson(join(folder, 'package.json'));
  const platform = `${process.platform}-${process.arch}`;
  const loader = LOADERS[platform];
  const packageName = Object.keys(manifest.optionalDependencies).find((name) => name.endsWith(`-${platform}`));
  const pin = { version: manifest.version, folder, packageName };
  if (packageName && (!loader || existsSync(loader))) {
    // Not node_modules/.bin/node: all three packages offer that name, and npm 8 leaves it out when it drops two of them.
    return { ...pin, node: join(folder, 'node_modules', packageName, 'bin', 'node'), own: false };
  }
  if (major(process.versions.node) >= major(manifest.version)) {
    return { ...pin, version: process.versions.node, node: process.execPath, own: true };
  }
  throw new Readable(
    `there is no packaged Node.js for this system (${platform}); ` +
      `install Node.js ${major(manifest.version)} or newer yourself and start again with it (this is ${process.version})`,
  );
}

/** True when the pinned version is on disk. Starts nothing, so it costs next to nothing. */
export function isInPlace(pin) {
  if (pin.own) return true;
  const installed = join(pin.folder, 'node_modules', pin.packageName, 'package.json');
  return existsSync(pin.node) && existsSync(installed) && readJson(installed).version === pin.version;
}

/**
 * Starts the pinned Node once to see that it runs here.
 * @throws {Readable} when it does not
 */
export function proveItRuns(pin) {
  try {
    const printed = execFileSync(pin.node, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    if (printed.trim() === `v${pin.version}`) return;
    throw new Error(`it says it is ${printed.trim()}`);
  } catch (error) {
    const reason = String(error.stderr || error.message)
      .trim()
      .split('\n')[0];
    throw new Readable(`Node.js ${pin.version} is installed but does not run here: ${reason}`);
  }
}

/** The environment with the pinned Node first on PATH. */
export function environmentFor(pin, env) {
  return { ...env, PATH: [dirname(pin.node), env.PATH].filter(Boolean).join(':') };
}

function major(version) {
  return Number(version.split('.')[0]);
}

function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'));
}
