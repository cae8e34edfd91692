import type { KeptPlace } from './claude/kept-place.ts';
import type { Lease } from './engine/nodes.ts';
import type { Broker, Runner } from './engine/ports.ts';
import type { AppOptions } from './http/app.ts';
import type { Stores } from './stores/stores.ts';
import type { Coordination } from './compose-coordination.ts';

/** What the probes say, from the last known state of the parts. */
export function healthOf(parts: {
  stores: Stores;
  runner: Runner;
  broker: Broker;
  coordination: Coordination;
  lease: Lease;
  keptPlace: KeptPlace;
}): Pick<AppOptions, 'ready' | 'claudeHealth'> {
  const { stores, runner, broker, coordination, lease, keptPlace } = parts;
  return {
    async ready() {
      const stored = stores.turns.check().then(
        () => true,
        () => false,
      );
      const [store, workspaces] = await Promise.all([stored, keptPlace.works()]);
      const works = { store, lease: lease.held, workspaces };
      return Object.entries(works).flatMap(([part, does]) => (does ? [] : [part]));
    },
    claudeHealth() {
      const runs = runner.health();
      const upstream = broker.health();
      if (!runs.ok) return { status: 'unhealthy', claude_available: false, error: 'Claude Code could not be started.' };
      if (!upstream.ok)
        return { status: 'degraded', claude_available: true, error: 'The last call of the model failed.' };
      if (!coordination.isUp())
        return { status: 'degraded', claude_available: true, error: 'Redis does not answer; this node goes on alone.' };
      return { status: 'healthy', claude_available: true, error: null };
    },
  };
}
