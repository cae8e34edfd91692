import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { descriptors, naming } from '../../soak/procfs.ts';
import { masterKey } from '../support/service.ts';
import type { Figure, Leftover, Probe, Span } from './history.ts';
import type { ServerNode } from './node.ts';
import type { World } from './world.ts';

const probeMs = 250;
const surroundingsEvery = 4;
/** Longest time for processes to be gone after their owner. */
const goneMs = 10_000;
const pollMs = 100;

/** Looks at a run from outside while it goes on. */
export class Watch {
  readonly probes: Probe[] = [];
  readonly surroundings = new Set<string>();
  readonly leftovers: Leftover[] = [];
  readonly outages: Span[] = [];
  readonly frozen: (Span & { credential: string })[] = [];
  readonly undecidable: Span[] = [];
  watched = 0;
  readonly #world: World;
  #isOver = false;
  #probing: Promise<void> = Promise.resolve();

  constructor(world: World) {
    this.#world = world;
  }

  start(): void {
    this.#probing = this.#probe();
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#probing;
  }

  async #probe(): Promise<void> {
    for (let count = 0; !this.#isOver; count += 1) {
      await Promise.all(this.#world.nodes.filter(({ isRunning }) => isRunning).map((node) => this.#live(node)));
      if (count % surroundingsEvery === 0) await this.#look();
      await delay(probeMs);
    }
  }

  async #live({ url }: ServerNode): Promise<void> {
    const at = Date.now();
    const since = performance.now();
    try {
      const response = await fetch(`${url}/livez`, { signal: AbortSignal.timeout(10_000) });
      await response.arrayBuffer();
      this.probes.push({ at, ms: Math.round(performance.now() - since), status: response.status });
    } catch (error) {
      const isTimeout = error instanceof DOMException && error.name === 'TimeoutError';
      this.probes.push({ at, ms: isTimeout ? Math.round(performance.now() - since) : null, status: null });
    }
  }

  /** Keeps arguments and environment of everything that runs in jails. */
  async #look(): Promise<void> {
    for (const node of this.#world.nodes) {
      for (const pid of await this.processesOf(node)) {
        const [argv, env] = await Promise.all(
          ['cmdline', 'environ'].map((file) => readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => '')),
        );
        this.surroundings.add(`${argv}\n${env}`.replaceAll('\0', ' '));
      }
    }
  }

  /** Processes of a node's jails. */
  processesOf(node: ServerNode): Promise<number[]> {
    return naming(`${this.#world.runDirOf(node)}/jails`, [node.pid, process.pid]);
  }

  /** Kills a server, and waits for its processes to go; notes that nothing answers until `back`. */
  async kill(node: ServerNode): Promise<{ back(): void }> {
    const before = await this.processesOf(node);
    const outage = { from: Date.now(), to: Number.MAX_SAFE_INTEGER, what: `${node.name} was killed` };
    this.outages.push(outage);
    await node.kill();
    this.goes(node, before, 'its server was killed');
    return { back: () => (outage.to = Date.now()) };
  }

  readonly #going: Promise<void>[] = [];

  /** Notes those of these processes that have not gone in time. */
  goes(node: ServerNode, pids: readonly number[], why: string): void {
    this.watched += pids.length;
    this.#going.push(this.#gone(node, pids, why));
  }

  async #gone(node: ServerNode, pids: readonly number[], why: string): Promise<void> {
    const until = performance.now() + goneMs;
    for (;;) {
      const left = (await this.processesOf(node)).filter((pid) => pids.includes(pid));
      if (left.length === 0) return;
      if (performance.now() < until) await delay(pollMs);
      else return await this.#leave(left, why);
    }
  }

  async #leave(pids: readonly number[], why: string): Promise<void> {
    for (const pid of pids) {
      const command = (await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')).replaceAll('\0', ' ');
      this.leftovers.push({ pid, command: command.slice(0, 200), why });
    }
  }

  /** At rest: whatever runs in a jail has to be of a process that the service knows of. Gives the number of jails. */
  async compare(): Promise<number> {
    await Promise.all(this.#going.splice(0));
    let jails = 0;
    for (const node of this.#world.nodes.filter(({ isRunning }) => isRunning)) {
      const until = performance.now() + goneMs;
      for (;;) {
        const known = await listed(node);
        const strange = await this.#strangers(node, known);
        jails = (await readdir(`${this.#world.runDirOf(node)}/jails`)).length;
        this.watched += known.length;
        if (strange.length === 0 && jails === known.length) break;
        if (performance.now() < until) await delay(pollMs);
        else {
          await this.#leave(strange, `${node.name} does not know of it, at rest`);
          if (jails !== known.length)
            this.leftovers.push({ pid: 0, command: `${jails} jails`, why: `${node.name} knows of ${known.length}` });
          break;
        }
      }
    }
    return jails;
  }

  async #strangers(node: ServerNode, known: readonly { process_id: string }[]): Promise<number[]> {
    const pids = await this.processesOf(node);
    const ids = await Promise.all(
      pids.map(
        async (pid) =>
          /SALLYPORT_PROCESS=([^\0]+)/u.exec(await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => ''))?.[1],
      ),
    );
    return pids.filter(
      (_, index) => ids[index] !== undefined && !known.some(({ process_id: id }) => id === ids[index]),
    );
  }

  /** After the end of all servers: nothing may be left of them. */
  async afterStop(): Promise<void> {
    await Promise.all(this.#going.splice(0));
    const until = performance.now() + goneMs;
    for (;;) {
      const left = (await Promise.all(this.#world.nodes.map((node) => this.processesOf(node)))).flat();
      this.watched += 1;
      if (left.length === 0) return;
      if (performance.now() < until) await delay(pollMs);
      else return await this.#leave(left, 'its server has ended');
    }
  }
}

async function listed(node: ServerNode): Promise<{ process_id: string; state: string; pid: number }[]> {
  const headers = { authorization: `Bearer ${masterKey}` };
  const response = await fetch(`${node.url}/api/admin/processes`, { headers });
  return ((await response.json()) as { items: { process_id: string; state: string; pid: number }[] }).items;
}

/** What a server holds on to. */
type Held = Record<
  'heapMb' | 'timers' | 'resources' | 'descriptors' | 'openTurns' | 'reservations' | 'working',
  number
>;

/** By how much each may be above what it was: what is cached, and connections that are kept alive for a while. */
const allowed: Record<keyof Held, { what: string; more: number }> = {
  heapMb: { what: 'heap, MB', more: 40 },
  timers: { what: 'timers', more: 12 },
  resources: { what: 'other resources', more: 40 },
  descriptors: { what: 'descriptors', more: 60 },
  openTurns: { what: 'turns without an end', more: 0 },
  reservations: { what: 'reservations', more: 0 },
  working: { what: 'processes at work', more: 0 },
};

/** Looks at the first node that runs. Nothing may be under way. */
export async function held(world: World): Promise<Held | null> {
  const node = world.nodes.find(({ isRunning }) => isRunning);
  if (node === undefined) return null;
  const inspector = await node.inspector();
  const { heap, timers, resources } = await inspector.look();
  inspector.close();
  const count = async (sql: string) => (await world.rows(sql)).length;
  const found = await listed(node);
  return {
    heapMb: Math.round(heap / 1e6),
    timers,
    // Each process that waits has pipes and sockets of its own.
    resources: resources - 6 * found.length,
    descriptors: (await descriptors(node.pid)) - 8 * found.length,
    openTurns: await count('select id from turns where ended_at is null'),
    reservations: await count('select turn from reservations'),
    working: found.filter(({ state }) => state === 'running').length,
  };
}

/** Looks until everything has come back, or for so many milliseconds; gives for how long, too. */
export async function figures(
  world: World,
  before: Held,
  milliseconds: number,
): Promise<{ figures: Figure[]; ms: number }> {
  const since = performance.now();
  for (;;) {
    const after = await held(world);
    const names = Object.keys(allowed) as (keyof Held)[];
    const found =
      after === null
        ? []
        : names.map((name) => ({
            what: allowed[name].what,
            before: before[name],
            after: after[name],
            atMost: before[name] + allowed[name].more,
          }));
    const ms = Math.round(performance.now() - since);
    if (found.every(({ after: now, atMost }) => now <= atMost) || ms >= milliseconds) return { figures: found, ms };
    await delay(500);
  }
}
