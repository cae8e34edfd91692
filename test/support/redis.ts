import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@redis/client';
import { startTied, type Tied } from '../../examples/cluster/tied.ts';
import { answering } from './answering.ts';
import { freePort } from './ports.ts';

/** The password of the Redis of tests. It must never be seen anywhere. */
export const redisPassword = 'redis-canary-9d41c7e2a6';

/** A Redis server of its own that keeps nothing, and goes when this process goes, however it ends. */
export interface RedisServer {
  readonly url: string;
  /** Where its TLS port is; null when it was started without one. */
  readonly tlsUrl: string | null;
  /** A certificate that its clients have to trust; null without TLS. */
  readonly certificate: string | null;
  /** Asks it, as the owner of everything. */
  ask<T = unknown>(...command: string[]): Promise<T>;
  /** Kills it with all it has; resolves when it is gone. */
  kill(): Promise<void>;
  /** Starts it again, empty, where it was. */
  start(): Promise<void>;
  /** Stops it where it is; connections to it stay, and are made, without an answer. */
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
}

let told = false;

/** Starts a Redis on a free port of this machine, with TLS on another one if need be. Prints what it says it is, once. */
export async function startRedis(part?: 'tls'): Promise<RedisServer> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'sp-redis-')));
  if (part === 'tls') makeCertificate(directory);
  for (let tries = 1; ; tries += 1) {
    const ports = { plain: await freePort(), tls: part === 'tls' ? await freePort() : null };
    const server = serverOf(directory, ports);
    try {
      await server.start();
      if (!told)
        process.stdout.write(`tests speak to Redis ${/redis_version:(\S+)/u.exec(await server.ask('INFO'))?.[1]}\n`);
      told = true;
      return server;
    } catch (error) {
      // Somebody else took the port meanwhile.
      if (tries < 5) continue;
      rmSync(directory, { recursive: true });
      throw error;
    }
  }
}

function serverOf(directory: string, { plain, tls }: { plain: number; tls: number | null }): RedisServer {
  const url = `redis://:${redisPassword}@127.0.0.1:${plain}`;
  const config = join(directory, 'redis.conf');
  writeFileSync(config, configuration(directory, plain, tls), { mode: 0o600 });
  let program: Tied | null = null;
  let pid = 0;
  const ask = async <T>(...command: string[]) => {
    const client = createClient({ url, socket: { reconnectStrategy: false } });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.sendCommand(command)) as T;
    } finally {
      client.destroy();
    }
  };
  const kill = async () => {
    await program?.end();
  };
  return {
    url,
    tlsUrl: tls === null ? null : `rediss://:${redisPassword}@localhost:${tls}`,
    certificate: tls === null ? null : readFileSync(join(directory, 'redis.crt'), 'utf8'),
    ask,
    kill,
    async start() {
      const { ended, said } = (program = startTied(['redis-server', config], { signal: 'KILL' }));
      const itself = async () => {
        const info = await ask<string>('INFO', 'server');
        // On a port that somebody else took meanwhile, another one answers.
        if (!info.includes(`config_file:${config}`)) throw new Error('this is another Redis');
        pid = Number(/^process_id:(\d+)/mu.exec(info)?.[1]);
      };
      await answering('Redis', itself, ended, said);
    },
    freeze: () => void process.kill(pid, 'SIGSTOP'),
    thaw: () => void process.kill(pid, 'SIGCONT'),
    async close() {
      await kill();
      rmSync(directory, { recursive: true });
    },
  };
}

function configuration(directory: string, plain: number, tls: number | null): string {
  const lines = [
    'bind 127.0.0.1',
    `port ${plain}`,
    `requirepass ${redisPassword}`,
    `dir ${directory}`,
    'save ""',
    'appendonly no',
    'loglevel warning',
  ];
  if (tls !== null) {
    const file = (end: string) => join(directory, `redis.${end}`);
    lines.push(`tls-port ${tls}`, `tls-cert-file ${file('crt')}`, `tls-key-file ${file('key')}`, 'tls-auth-clients no');
  }
  return `${lines.join('\n')}\n`;
}

function makeCertificate(directory: string): void {
  const files = ['-keyout', join(directory, 'redis.key'), '-out', join(directory, 'redis.crt')];
  const of = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '2', '-nodes'];
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', ...of, ...files];
  const made = spawnSync('openssl', args, { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`openssl failed: ${made.stderr}`);
}
