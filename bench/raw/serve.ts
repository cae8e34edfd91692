import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Jails } from '../../packages/server/src/claude/jail.ts';
import type { Broker } from '../../packages/server/src/engine/ports.ts';

/**
 * Answers on a port of loopback with what `answer` gives, by the path that was asked for, and prints the address. At
 * SIGTERM the jails and the broker are closed, and the program ends.
 */
export function serve(
  { jails, broker }: { readonly jails: Jails; readonly broker: Broker },
  answer: (path: string | undefined, request: IncomingMessage) => Promise<object>,
): void {
  const server = createServer((request, response) => {
    answer(request.url, request).then(
      (body) => response.end(JSON.stringify(body)),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
        response.destroy();
      },
    );
  });
  process.once('SIGTERM', () => void Promise.all([jails.close(), broker.close()]).finally(() => process.exit(0)));
  server.listen(0, '127.0.0.1', () => {
    const jail = jails.isolation.jailed ? '' : 'WITHOUT A JAIL\n';
    process.stdout.write(`${jail}Address: http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
  });
}
