import { join } from 'node:path';
import { createBroker } from '../../packages/server/src/broker/broker.ts';
import { loadPrices } from '../../packages/server/src/broker/prices.ts';
import { prepareRunDirectory } from '../../packages/server/src/claude/slots.ts';
import { systemClock } from '../../packages/server/src/engine/clock.ts';
import type { Broker, Log } from '../../packages/server/src/engine/ports.ts';

function complain(data: object, message: string): void {
  process.stderr.write(`${message} ${JSON.stringify(data)}\n`);
}

/** Says what goes wrong, and nothing else. */
export const log: Log = { info() {}, warn: complain, error: complain };

/** The broker of the service in a run directory of its own, below BENCH_BASE, to the upstream ANTHROPIC_BASE_URL. */
export async function openBroker(name: string): Promise<{ broker: Broker; runDir: string }> {
  const run = await prepareRunDirectory(join(process.env['BENCH_BASE'] ?? '', name));
  const broker = await createBroker({
    socketPath: run.brokerSocket,
    upstreams: [
      { name: 'bench', baseUrl: process.env['ANTHROPIC_BASE_URL'] ?? '', keys: [], maxConcurrent: 1000, models: null },
    ],
    prices: loadPrices(null),
    clock: systemClock,
    log,
    record: async () => {},
  });
  return { broker, runDir: run.path };
}
