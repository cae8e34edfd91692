import { mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 200;
const BEAT_MS = 2_000;
/** An owner on another machine, or whose pid now belongs to somebody else, is given up after this long without a beat. */
const SILENT_POLLS = 60_000 / POLL_MS;

/**
 * Takes a lock that is a directory holding its owner's pids, and waits while another living process has it.
 * The directory appears under its name with the owner already inside, so a lock without an owner does not exist.
 * @param {string} directory
 * @param {(pid: number) => void} onWait called once when somebody else holds it
 * @returns {Promise<{alsoHeldBy(pid: number): void, release(): void}>}
 */
export async function takeLock(directory, onWait) {
  mkdirSync(dirname(directory), { recursive: true });
  let waiting = false;
  let seen = '';
  let unchanged = 0;
  while (!tryTake(directory)) {
    const owner = readOwner(directory);
    if (!owner) {
      await sleep(POLL_MS);
      continue;
    }
    unchanged = owner.beat === seen ? unchanged + 1 : 0;
    seen = owner.beat;
    if (isDead(owner) || unchanged > SILENT_POLLS) {
      bury(directory, owner.id);
      continue;
    }
    if (!waiting) onWait(owner.pids[0]);
    waiting = true;
    await sleep(POLL_MS);
  }
  return hold(directory);
}

function ownerText(pids) {
  return `${JSON.stringify({ host: hostname(), id: `${process.pid}-${Date.now()}`, pids })}\n`;
}

function tryTake(directory) {
  const own = `${directory}.${process.pid}`;
  rmSync(own, { recursive: true, force: true });
  mkdirSync(own);
  writeFileSync(join(own, 'owner'), ownerText([process.pid]));
  try {
    renameSync(own, directory);
    return true;
  } catch (error) {
    rmSync(own, { recursive: true, force: true });
    if (['ENOTEMPTY', 'EEXIST', 'EPERM'].includes(error.code)) return false;
    throw error;
  }
}

function hold(directory) {
  const file = join(directory, 'owner');
  const { id } = readOwner(directory);
  const beat = setInterval(() => {
    try {
      utimesSync(file, new Date(), new Date());
    } catch {
      // Somebody took the lock for abandoned; the installation itself is still worth finishing.
    }
  }, BEAT_MS);
  beat.unref();
  return {
    alsoHeldBy(pid) {
      const owner = JSON.parse(readFileSync(file, 'utf8'));
      const next = `${file}.next`;
      writeFileSync(next, `${JSON.stringify({ ...owner, pids: [process.pid, pid] })}\n`);
      renameSync(next, file);
    },
    release() {
      clearInterval(beat);
      if (readOwner(directory)?.id === id) rmSync(directory, { recursive: true, force: true });
    },
  };
}

function readOwner(directory) {
  const file = join(directory, 'owner');
  try {
    const beat = `${statSync(file).mtimeMs}`;
    return { ...JSON.parse(readFileSync(file, 'utf8')), beat };
  } catch (error) {
    return error.code === 'ENOENT' ? undefined : { host: hostname(), id: 'unreadable', pids: [], beat: '' };
  }
}

function isDead(owner) {
  // Our own pid in a lock we do not hold is a predecessor's, as in a restarted container.
  return owner.host === hostname() && !owner.pids.some((pid) => pid !== process.pid && isAlive(pid));
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/**
 * Moves a dead owner's lock aside under a name made from that owner. The grave stays: a slower process that saw the
 * same dead owner then fails to move a lock taken since.
 */
function bury(directory, id) {
  try {
    renameSync(directory, `${directory}.dead.${id}`);
  } catch {
    // Another waiting process was first.
  }
}
