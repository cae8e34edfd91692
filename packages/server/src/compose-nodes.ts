import { mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Settings } from './config/settings.ts';
import { openKeptPlace } from './claude/kept-place.ts';
import { systemClock } from './engine/clock.ts';
import { Lease } from './engine/nodes.ts';
import type { Log } from './engine/ports.ts';
import { placeIn } from './stores/lock.ts';
import type { Stores } from './stores/stores.ts';

/**
 * This process as one of the nodes of the service. What is embedded serves one process alone, which its data directory's
 * lock sees to: nobody could take over, and it needs no lease.
 */
export function leaseOf({ databaseUrl, dataDir, leaseSeconds }: Settings, stores: Stores, logger: Log): Lease {
  const own =
    databaseUrl === null
      ? { place: 'embedded', leaseMs: null }
      : { place: placeIn(dataDir), leaseMs: leaseSeconds * 1000 };
  return new Lease({ ...own, nodes: stores.nodes, turns: stores.turns, clock: systemClock, logger });
}

/**
 * The real paths of the service's own directories: of its data, and of the files of conversations, which is made here.
 * Rejects with one readable line when that is not the one of its database.
 */
export async function dataDirectories(
  settings: Pick<Settings, 'dataDir' | 'workspacesDir'>,
  { nodes }: Pick<Stores, 'nodes'>,
) {
  const dataDir = await realpath(settings.dataDir);
  const kept = settings.workspacesDir ?? join(dataDir, 'workspaces');
  await mkdir(kept, { recursive: true, mode: 0o700 });
  const keptDir = await realpath(kept);
  return { dataDir, keptDir, keptPlace: await openKeptPlace(keptDir, (found) => nodes.keptPlace(found)) };
}
