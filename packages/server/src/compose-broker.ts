import { SIMULATOR_MODEL, startSimulator } from '@sallyport/simulator';
import { createBroker, type BrokerOptions } from './broker/broker.ts';
import type { Settings } from './config/settings.ts';
import { watchUpstreams } from './config/upstreams-watch.ts';
import { systemClock } from './engine/clock.ts';
import type { Broker } from './engine/ports.ts';

/** Takes a step to be run when the service ends, before the steps it took earlier. */
interface Teardown {
  add(step: () => Promise<unknown>): void;
}

/** The upstreams of the settings; the simulated one is started in this process. */
async function upstreamsOf(settings: Settings, teardown: Teardown): Promise<Settings['upstreams']> {
  if (settings.upstream === 'anthropic') return settings.upstreams;
  const simulator = await startSimulator({ model: SIMULATOR_MODEL, recordBodies: false });
  teardown.add(() => simulator.close());
  const { upstreamMaxConcurrent: maxConcurrent } = settings;
  return [{ name: 'simulator', baseUrl: simulator.url, keys: [], maxConcurrent, models: null }];
}

/** The only way of processes to the model. Upstreams that are in a file are read again while the service runs. */
export async function startBroker(
  settings: Settings,
  parts: Pick<BrokerOptions, 'socketPath' | 'prices' | 'record' | 'log'>,
  teardown: Teardown,
): Promise<Broker> {
  const upstreams = await upstreamsOf(settings, teardown);
  const broker = await createBroker({
    ...parts,
    upstreams,
    clock: systemClock,
    timeouts: {
      firstByteMs: settings.upstreamFirstByteSeconds * 1000,
      silenceMs: settings.upstreamSilenceSeconds * 1000,
    },
    retry: { budgetShare: settings.upstreamRetryPercent / 100 },
    breaker: { calls: settings.upstreamBreakerCalls },
  });
  teardown.add(() => broker.close());
  const { rereadUpstreams: reread } = settings;
  if (reread !== null) {
    const apply = (next: Settings['upstreams']) => broker.setUpstreams(next);
    const watch = watchUpstreams({ reread, current: upstreams, apply, log: parts.log });
    teardown.add(async () => watch.close());
  }
  return broker;
}
