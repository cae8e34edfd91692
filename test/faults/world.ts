import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { startSimulator, type Simulator } from '@sallyport/simulator';
import type { Dice } from '../../soak/random.ts';
import { administer, makeTenant } from '../support/admin.ts';
import { makeProject } from '../support/commands.ts';
import { databasePassword, startPostgres, type PostgresServer } from '../support/postgres.ts';
import { redisPassword, startRedis, type RedisServer } from '../support/redis.ts';
import { masterKey, unlimited } from '../support/service.ts';
import { brainWith, type Disturb } from './brain.ts';
import { ServerNode } from './node.ts';
import { databasePath, redisPath, type DatabasePath, type RedisPath } from './path.ts';

/** What a fault needs to be played. */
export interface WorldOptions {
  /** Default: SQLite in the data directory. */
  store?: 'postgres';
  redis?: true;
  /** How many processes serve; several need Postgres. */
  nodes?: number;
  /** Size in MB of a file system of its own for the data of the first node, which can be filled. */
  disk?: number;
  /** Settings over the usual ones. */
  env?: Readonly<Record<string, string>>;
  /** USD a day, of tenants that have a budget. */
  budgets?: Readonly<Record<string, number>>;
}

export const model = 'sallyport-simulator';
export const tenants = ['alpha', 'bravo'] as const;
/** Processes of Claude Code that may work at once on a node. */
export const places = 6;
/** USD for a million tokens, in and out: turns come to some cents. */
const price = { input: 10, output: 10, cacheRead: 10, cacheWrite: 10 };

/** The parts of a run: servers, upstream, stores. All of them are real but the model, which is simulated. */
export interface World {
  base: string;
  /** The directory of projects. */
  root: string;
  nodes: ServerNode[];
  simulator: Simulator;
  postgres: PostgresServer | null;
  redis: RedisServer | null;
  /** The ways of the nodes to Postgres, in their order; none without it. */
  paths: DatabasePath[];
  /** Their ways to Redis, in their order; none without it. */
  redisPaths: RedisPath[];
  /** The secret of a user key of each tenant. */
  keys: Record<string, string>;
  secrets: Record<string, string>;
  budgets: Readonly<Record<string, number>>;
  /** What goes wrong with calls of the model, from now on. */
  disturb: Disturb;
  /** A node that serves, one of several at random; when there is none, one that served. */
  node(dice: Dice): ServerNode;
  /** Directory in which a node keeps what runs. */
  runDirOf(node: ServerNode): string;
  /** The key with which a node calls the model. */
  credentialOf(node: ServerNode): string;
  first: ServerNode;
  /** The first node that runs; when none does, the first. */
  serving: ServerNode;
  /** Rows of the database, read beside the service. */
  rows(sql: string): Promise<Record<string, any>[]>;
  /** Changes the database beside the service. */
  change(sql: string): Promise<void>;
  project(name: string, files: Readonly<Record<string, string>>): Promise<string>;
  /** Ends what still runs, but keeps the files. */
  stop(): Promise<void>;
  remove(): Promise<void>;
}

/** Of several nodes; one that is alone is in no hurry. */
export const leaseSeconds = 5;
const databaseName = 'faults';
const stopMs = 40_000;

/** Starts everything. When that fails, nothing is left. */
export async function startWorld(options: WorldOptions): Promise<World> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'sp-faults-')));
  await chmod(base, 0o755); // The user of projects has to be able to enter it.
  const onExit = () => rmSync(base, { recursive: true, force: true, maxRetries: 3 });
  process.once('exit', onExit);
  const ends: (() => Promise<unknown>)[] = [
    async () => process.off('exit', onExit),
    () => rm(base, { recursive: true, force: true }),
  ];
  const removeAll = async () => {
    for (const end of ends.splice(0).toReversed()) await end();
  };
  try {
    return await build(base, options, ends, removeAll);
  } catch (error) {
    await removeAll();
    throw error;
  }
}

async function build(
  base: string,
  options: WorldOptions,
  ends: (() => Promise<unknown>)[],
  removeAll: () => Promise<void>,
) {
  const [root, logDir] = [join(base, 'projects'), join(base, 'logs')];
  for (const directory of [root, logDir]) await mkdir(directory);
  const prices = join(base, 'prices.json');
  await writeFile(prices, JSON.stringify({ [model]: price }));
  let disturb: Disturb = () => null;
  const simulator = await startSimulator({ script: brainWith((request, context) => disturb(request, context)) });
  ends.push(() => simulator.close());
  const postgres = options.store === 'postgres' ? await startPostgres() : null;
  if (postgres) ends.push(() => postgres.close());
  const redis = options.redis ? await startRedis() : null;
  if (redis) ends.push(() => redis.close());
  await postgres?.create(databaseName);
  const common = {
    ANTHROPIC_BASE_URL: simulator.url,
    SALLYPORT_MODELS: model,
    SALLYPORT_WORKSPACE_ROOTS: root,
    SALLYPORT_PRICES: prices,
    SALLYPORT_MAX_PROCESSES: String(places),
    SALLYPORT_SPARES: '1',
    CLAUDE_API_MASTER_KEY: masterKey,
    ...unlimited,
    ...(postgres && {
      SALLYPORT_WORKSPACES_DIR: join(base, 'kept'),
      SALLYPORT_LEASE_SECONDS: String((options.nodes ?? 1) > 1 ? leaseSeconds : 60),
    }),
  };
  const names = Array.from({ length: options.nodes ?? 1 }, (_, index) => `n${index + 1}`);
  const paths = await Promise.all(
    names.flatMap((name) => (postgres ? [databasePath(join(base, `way-${name}`), postgres.socket)] : [])),
  );
  const redisPaths = await Promise.all(names.flatMap(() => (redis ? [redisPath(redis.url)] : [])));
  ends.push(async () => [...paths, ...redisPaths].forEach((path) => path.close()));
  const nodes = await Promise.all(
    names.map((name, index) => {
      const way = paths[index];
      const url = way && postgres ? { DATABASE_URL: postgres.url(databaseName, way.directory) } : {};
      const bus = redisPaths[index];
      return nodeOf(name, base, { ...common, ...url, ...(bus && { REDIS_URL: bus.url }), ...options.env });
    }),
  );
  if (options.disk !== undefined) ends.push(mountDisk(join(base, 'n1', 'data'), options.disk));
  const stop = () => stopNodes(nodes);
  ends.push(stop);
  for (const node of nodes) await node.start();
  const first = nodes[0] as ServerNode;
  const keys: Record<string, string> = {};
  for (const tenant of tenants) keys[tenant] = await makeTenant(first, tenant);
  for (const [tenant, day] of Object.entries(options.budgets ?? {}))
    await administer(first, 'PATCH', `tenants/${tenant}`, { budgets: { day } });
  const stored = { sqlite: join(base, 'n1', 'data', 'sallyport.db'), postgres };
  const world: World = {
    base,
    root,
    nodes,
    simulator,
    postgres,
    redis,
    paths,
    redisPaths,
    keys,
    first,
    budgets: options.budgets ?? {},
    secrets: secretsOf(nodes, keys),
    get disturb() {
      return disturb;
    },
    set disturb(next) {
      disturb = next;
    },
    get serving() {
      return nodes.find(({ isRunning }) => isRunning) ?? first;
    },
    node: (dice) =>
      dice.pick(nodes.some(({ isRunning }) => isRunning) ? nodes.filter(({ isRunning }) => isRunning) : nodes),
    runDirOf: ({ name }) => join(base, name, 'run'),
    credentialOf: ({ name }) => credential(name),
    rows: (sql) => readRows(stored, sql),
    change: (sql) => changeRows(stored, sql),
    project: (name, files) => makeProject({ root }, name, files),
    stop,
    remove: removeAll,
  };
  return world;
}

/** Mounts a small file system; the result takes it away. */
function mountDisk(directory: string, megabytes: number): () => Promise<void> {
  mkdirSync(directory, { mode: 0o700 });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0700`, 'tmpfs', directory]);
  return async () => void execFileSync('umount', ['-l', directory]);
}

/** Why there can be no file system that is filled; null: there can. */
export const noDisk = (): string | null =>
  process.getuid?.() === 0 && spawnSync('mount', ['--version']).status === 0 ? null : 'only root can mount';

const credential = (name: string): string => `sk-ant-canary-${name}-7f3a1c5e9b2d4860`;

async function nodeOf(name: string, base: string, env: Readonly<Record<string, string>>): Promise<ServerNode> {
  const directory = join(base, name);
  await mkdir(directory);
  const own = {
    SALLYPORT_PORT: '0',
    SALLYPORT_DATA_DIR: join(directory, 'data'),
    SALLYPORT_RUN_DIR: join(directory, 'run'),
    ANTHROPIC_API_KEY: credential(name),
  };
  return new ServerNode({ name, env: { ...own, ...env }, cwd: directory, logDir: join(base, 'logs') });
}

const secretsOf = (nodes: readonly ServerNode[], keys: Readonly<Record<string, string>>): Record<string, string> => ({
  'the master key': masterKey,
  'the password of Postgres': databasePassword,
  'the password of Redis': redisPassword,
  ...Object.fromEntries(nodes.map(({ name }) => [`the upstream key of ${name}`, credential(name)])),
  ...Object.fromEntries(Object.entries(keys).map(([tenant, key]) => [`the key of ${tenant}`, key])),
});

/** Asks all nodes to end and waits until they have; those that do not are killed. */
async function stopNodes(nodes: readonly ServerNode[]): Promise<void> {
  const stopping = nodes
    .filter(({ isRunning }) => isRunning)
    .map(async (node) => {
      node.signal('SIGCONT');
      node.signal('SIGTERM');
      const late = new AbortController();
      const kill = delay(stopMs, undefined, { signal: late.signal })
        .then(() => node.kill())
        .catch(() => undefined);
      await node.exited;
      late.abort();
      await kill;
    });
  await Promise.all(stopping);
}

interface Stored {
  sqlite: string;
  postgres: PostgresServer | null;
}

/** Postgres gives large integers as text. */
const plainRow = (row: object): Record<string, any> =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      typeof value === 'string' && /^-?\d{1,15}$/u.test(value) ? Number(value) : value,
    ]),
  );

async function readRows({ sqlite, postgres }: Stored, sql: string): Promise<Record<string, any>[]> {
  if (postgres) return (await postgres.ask<object>(sql, databaseName)).map(plainRow);
  const database = new DatabaseSync(sqlite, { readOnly: true, timeout: 5000 });
  try {
    return database.prepare(sql).all() as Record<string, any>[];
  } finally {
    database.close();
  }
}

async function changeRows({ sqlite, postgres }: Stored, sql: string): Promise<void> {
  if (postgres) return void (await postgres.ask(sql, databaseName));
  const database = new DatabaseSync(sqlite, { timeout: 5000 });
  try {
    database.exec(sql);
  } finally {
    database.close();
  }
}
