import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { takeLock } from './lock.mjs';
import { environmentFor, isInPlace, pinnedNode, proveItRuns } from './node-pin.mjs';
import { explain, npmCi } from './npm.mjs';
import { Readable, say, step } from './say.mjs';

/**
 * Puts the pinned Node and the packages of the lockfile in place; does nothing, quickly, when they are.
 * Processes that come at the same time wait for each other.
 * @param {string} root the repository
 * @param {Record<string, string | undefined>} env handed on to npm whole, so its settings, proxies and certificates hold
 * @returns {Promise<{node: string, env: Record<string, string | undefined>}>} the Node to run programs with, and their environment
 * @throws {Readable} when something could not be installed
 */
export async function prepare(root, env) {
  const pin = pinnedNode(root);
  const ready = { node: pin.node, env: environmentFor(pin, env) };
  if (isReady(root, pin)) return ready;
  const lock = await lockFor(root);
  try {
    if (isReady(root, pin)) return ready;
    await installNode(pin, env, lock);
    proveItRuns(pin);
    await installPackages(root, pin, ready.env, lock);
    return ready;
  } finally {
    lock.release();
  }
}

function isReady(root, pin) {
  return isInPlace(pin) && readStamp(root) === stampOf(root, pin);
}

async function lockFor(root) {
  const directory = join(root, '.local', 'install.lock');
  try {
    return await takeLock(directory, (pid) => say(`waiting for process ${pid}, which is installing (${directory})`));
  } catch (error) {
    throw new Readable(`cannot install into ${root}: ${error.message}`);
  }
}

async function installNode(pin, env, lock) {
  if (isInPlace(pin)) return;
  await step(`installing Node.js ${pin.version}`, async () => {
    const output = await npmCi({ folder: pin.folder, node: process.execPath, env, onPid: lock.alsoHeldBy });
    if (isInPlace(pin)) return;
    const reason = explain(output) ?? `npm ci in ${pin.folder} left out the package ${pin.packageName}`;
    throw new Readable(`Node.js ${pin.version} could not be installed: ${reason}`);
  });
}

async function installPackages(root, pin, env, lock) {
  if (readStamp(root) === stampOf(root, pin)) return;
  await step('installing packages (about 800 MB the first time)', () =>
    npmCi({ folder: root, node: pin.node, env, onPid: lock.alsoHeldBy }),
  );
  mkdirSync(join(root, 'node_modules'), { recursive: true });
  writeFileSync(stampFile(root), stampOf(root, pin));
}

function stampFile(root) {
  return join(root, 'node_modules', '.sallyport-stamp');
}

/** What an installation depends on. npm ci empties node_modules first, so an interrupted one leaves no stamp. */
function stampOf(root, pin) {
  const lockfile = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  return `${lockfile} node-${pin.version} ${process.platform}-${process.arch}\n`;
}

function readStamp(root) {
  try {
    return readFileSync(stampFile(root), 'utf8');
  } catch {
    return undefined;
  }
}
