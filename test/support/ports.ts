import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * A port of loopback that is free, of those that the system gives to nobody by itself, so that whoever listens there can
 * do so again after it was stopped. Somebody else may still take it first.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    const probe = createServer();
    const listening = once(probe, 'listening').then(
      () => true,
      () => false,
    );
    probe.listen(port, '127.0.0.1');
    const isFree = await listening;
    await new Promise((resolve) => probe.close(resolve));
    if (isFree) return port;
  }
}
