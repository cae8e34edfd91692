import { once } from 'node:events';
import { chmod, mkdir } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';

/** The way of one node to a store, which can be closed. */
export interface Way {
  /** Lets nothing through any more; open connections get no answer. */
  cut(): void;
  /** Ends what was cut and lets everything through. */
  mend(): void;
  close(): void;
}

/** The way of one node to Postgres, which can also lose the answer to a commit. */
export interface DatabasePath extends Way {
  /** The directory its socket is in. */
  directory: string;
  /** The next commits are done, and their connections broken before the answer. */
  loseCommits(count: number): void;
  /** How many answers were lost. */
  lost(): number;
}

/** The way of one node to Redis. */
export interface RedisPath extends Way {
  /** Its address. */
  url: string;
}

const commit = Buffer.from('Q\0\0\0\u000bcommit\0', 'latin1');

/** Listens as Postgres does, before the server that has this socket. */
export async function databasePath(directory: string, socket: string): Promise<DatabasePath> {
  await mkdir(directory);
  await chmod(directory, 0o755);
  return { directory, ...(await wayTo(() => connect(socket), join(directory, '.s.PGSQL.5432'))) };
}

/** Listens on a port before the Redis that has this address. */
export async function redisPath(address: string): Promise<RedisPath> {
  const url = new URL(address);
  const port = Number(url.port);
  const way = await wayTo(() => connect(port, url.hostname), 0);
  url.port = String(way.port);
  return { url: url.href, ...way };
}

async function wayTo(reach: () => Socket, at: string | number) {
  const open = new Set<Socket>();
  let [isCut, toLose, lost] = [false, 0, 0];
  const listener = createServer((client) => {
    open.add(client);
    const server = reach();
    let answers = true;
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on('error', () => undefined);
      one.on('close', () => {
        open.delete(client);
        other.destroy();
      });
    }
    client.on('data', (chunk: Buffer) => {
      if (isCut) return;
      if (toLose > 0 && chunk.includes(commit)) [toLose, answers] = [toLose - 1, false];
      server.write(chunk);
    });
    server.on('data', (chunk: Buffer) => {
      if (isCut) return;
      if (answers) return void client.write(chunk);
      lost += 1;
      client.destroy();
    });
  });
  if (typeof at === 'number') listener.listen(at, '127.0.0.1');
  else listener.listen(at);
  await once(listener, 'listening');
  const endAll = () => {
    for (const each of open) each.destroy();
  };
  return {
    port: (listener.address() as AddressInfo).port,
    cut: () => void (isCut = true),
    mend() {
      isCut = false;
      endAll();
    },
    loseCommits: (count: number) => void (toLose = count),
    lost: () => lost,
    close() {
      listener.close();
      endAll();
    },
  };
}
