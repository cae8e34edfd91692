import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { startSimulator, type Simulator } from '@sallyport/simulator';
import type { PostgresServer } from './postgres.ts';
import { masterKey, startProgram, unlimited, upstreamKey, userKey, type Program } from './service.ts';

/** One of several servers on one database, in a process of its own. */
export interface TestNode {
  readonly url: string;
  readonly program: Program;
  readonly runDir: string;
  /** Ends its connections to the database and lets no new one through, until `repair`. */
  cut(): void;
  repair(): void;
}

/** Servers on one database, with one upstream and one directory for the files of conversations. */
export interface TestNodes {
  readonly simulator: Simulator;
  /** The directory for the files of conversations. */
  readonly workspaces: string;
  readonly rows: <Row extends object>(sql: string) => Promise<Row[]>;
  /** Starts one, with what else is the same on its machine under the same name. */
  start(name: string, env?: Readonly<Record<string, string>>): Promise<TestNode>;
}

/** Seconds of a lease that a busy machine keeps. */
export const usualLease = 8;

/** What nodes have in common, which is ended and deleted when the test ends. */
export async function nodesOn(
  context: TestContext,
  postgres: PostgresServer,
  name: string,
  leaseSeconds: number = usualLease,
): Promise<TestNodes> {
  await postgres.create(name);
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-nodes-')));
  await chmod(directory, 0o755); // The jail's user has to be able to enter it.
  const simulator = await startSimulator();
  const programs: Program[] = [];
  const sockets: CutSocket[] = [];
  context.after(async () => {
    // A frozen one hears nothing else.
    for (const program of programs) program.signal('SIGKILL');
    await Promise.all(programs.map(({ exited }) => exited));
    for (const socket of sockets) socket.close();
    await simulator.close();
    await rm(directory, { recursive: true, force: true });
  });
  const workspaces = join(directory, 'workspaces');
  return {
    simulator,
    workspaces,
    rows: (sql) => postgres.ask(sql, name),
    async start(node, more = {}) {
      const own = (part: string) => join(directory, `${node}-${part}`);
      await mkdir(own('work'), { recursive: true, mode: 0o777 });
      await mkdir(own('socket'), { recursive: true });
      const socket = await cutSocket(own('socket'), postgres.socket);
      sockets.push(socket);
      const env = {
        SALLYPORT_PORT: '0',
        SALLYPORT_DATA_DIR: own('data'),
        SALLYPORT_RUN_DIR: own('run'),
        SALLYPORT_WORKSPACES_DIR: workspaces,
        SALLYPORT_LEASE_SECONDS: String(leaseSeconds),
        SALLYPORT_SPARES: '0',
        DATABASE_URL: postgres.url(name, own('socket')),
        ANTHROPIC_API_KEY: upstreamKey,
        ANTHROPIC_BASE_URL: simulator.url,
        SALLYPORT_MODELS: 'sallyport-simulator',
        CLAUDE_API_KEY_1: userKey,
        CLAUDE_API_MASTER_KEY: masterKey,
        ...unlimited,
        ...more,
      };
      const program = await startProgram(env, own('work'));
      programs.push(program);
      return { url: program.url, program, runDir: own('run'), cut: () => socket.cut(), repair: () => socket.repair() };
    },
  };
}

interface CutSocket {
  cut(): void;
  repair(): void;
  close(): void;
}

/** Listens as Postgres does, before the server that has this socket. */
async function cutSocket(directory: string, socket: string): Promise<CutSocket> {
  const path = join(directory, '.s.PGSQL.5432');
  await rm(path, { force: true });
  const open = new Set<Socket>();
  let isCut = false;
  const listener = createServer((client) => {
    if (isCut) return void client.destroy();
    const server = connect(socket);
    for (const each of [client, server]) {
      open.add(each);
      each.on('error', () => undefined);
      each.on('close', () => {
        open.delete(each);
        client.destroy();
        server.destroy();
      });
    }
    client.pipe(server).pipe(client);
  }).listen(path);
  await once(listener, 'listening');
  const end = () => {
    for (const each of open) each.destroy();
  };
  return {
    cut() {
      isCut = true;
      end();
    },
    repair: () => void (isCut = false),
    close() {
      end();
      listener.close();
    },
  };
}
