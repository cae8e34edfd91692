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
}): Pick<AppOptions, 'ready' | 'claudeHealth'> {
  const { stores, runner, broker, coordination, lease } = parts;
  return {
    async ready() {
      const stored = await stores.turns.check().then(
        () => true,
        () => false,
      );
      return [...(stored ? [] : ['store']), ...(lease.held ? [] : ['lease'])];
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
