import { mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Settings } from './config/settings.ts';
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

/** The real paths of the service's own directories: of its data, and of the files of conversations, which is made here. */
export async function dataDirectories(settings: Pick<Settings, 'dataDir' | 'workspacesDir'>) {
  const dataDir = await realpath(settings.dataDir);
  const kept = settings.workspacesDir ?? join(dataDir, 'workspaces');
  await mkdir(kept, { recursive: true, mode: 0o700 });
  return { dataDir, keptDir: await realpath(kept) };
}
