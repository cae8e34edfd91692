import { setTimeout as delay } from 'node:timers/promises';
import { leftOut } from '../../support/needs.ts';
import { leftOutWithoutPostgres } from '../../support/postgres.ts';
import { masterKey } from '../../support/service.ts';
import type { Fault, Stage } from '../fault.ts';
import type { ServerNode } from '../node.ts';
import { leaseSeconds } from '../world.ts';
import { readyz, waitFor } from './steps.ts';

const world = { store: 'postgres', nodes: 2 } as const;
const missing = (): string | null => (leftOutWithoutPostgres('faults of nodes') ? 'there is no Postgres' : null);
const missingRedis = (): string | null =>
  missing() ?? (leftOut('faults of Redis', ['redis-server']) ? 'there is no Redis' : null);
const leaseMs = leaseSeconds * 1000;
const adminHeaders = { authorization: `Bearer ${masterKey}` };

/** The turns of a node that have no end, until there are none; how many there were, and are. */
async function takenOver({ world: { rows }, expect, note }: Stage, since: number): Promise<void> {
  const own = await rows('select node from turns where ended_at is null');
  note(`${own.length} turns had no end when a node was gone`);
  const left = await waitFor(
    () =>
      rows(
        `select t.id from turns t where t.ended_at is null and t.accepted_at < ${since} and not exists (select 1 from nodes n where n.id = t.node) and not exists (select 1 from approvals a where a.turn = t.id and a.status = 'pending')`,
      ),
    (found) => found.length === 0,
    60_000,
  );
  expect(left.length === 0, `${left.length} turns of a node that is gone were not taken over`);
}

async function ready({ expect }: Stage, node: ServerNode): Promise<void> {
  const status = await waitFor(
    () => readyz(node),
    (found) => found === 200,
  );
  expect(status === 200, `${node.name} was not ready: ${status}`);
}

/** Notes that a node does not act from now until the result is called. */
function stops({ watch, world: { credentialOf } }: Stage, node: ServerNode, what: string): () => void {
  const span = {
    from: Date.now(),
    to: Number.MAX_SAFE_INTEGER,
    what: `${node.name} ${what}`,
    credential: credentialOf(node),
  };
  watch.frozen.push(span);
  return () => (span.to = Date.now());
}

export const nodeFaults: Fault[] = [
  {
    id: 'N1',
    title: 'kill -9 of a node with conversations',
    world,
    missing,
    shows: ['I1', 'I3', 'I6', 'I7'],
    async play(stage) {
      const node = stage.dice.pick(stage.world.nodes);
      const { back } = await stage.watch.kill(node);
      const since = Date.now();
      stage.note(`${node.name} is killed`);
      await delay(2 * leaseMs);
      await takenOver(stage, since);
      await node.start();
      back();
    },
  },
  {
    id: 'N2',
    title: 'SIGSTOP of a node for three leases, then SIGCONT',
    world,
    missing,
    shows: ['I2', 'I3', 'I6'],
    async play(stage) {
      const node = stage.dice.pick(stage.world.nodes);
      const goesOn = stops(stage, node, 'was frozen');
      node.signal('SIGSTOP');
      await delay(3 * leaseMs);
      goesOn();
      node.signal('SIGCONT');
      await ready(stage, node);
    },
  },
  {
    id: 'N3',
    title: 'a node loses Postgres alone',
    world,
    missing,
    shows: ['I2', 'I3'],
    async play(stage) {
      const index = stage.dice.between(0, 1);
      const [node, way] = [stage.world.nodes[index] as ServerNode, stage.world.paths[index]];
      const goesOn = stops(stage, node, 'was cut off');
      way?.cut();
      await delay(3 * leaseMs);
      const status = await readyz(node);
      stage.expect(status !== 200, `${node.name} was ready without its database`);
      way?.mend();
      goesOn();
      await ready(stage, node);
    },
  },
  {
    id: 'N4',
    title: 'nodes are stopped and started one after the other',
    world,
    missing,
    shows: ['I1', 'I3', 'I6', 'I7'],
    async play(stage) {
      for (const node of stage.world.nodes) {
        const before = await stage.watch.processesOf(node);
        const outage = { from: Date.now(), to: Number.MAX_SAFE_INTEGER, what: `${node.name} was stopped` };
        stage.watch.outages.push(outage);
        node.signal('SIGTERM');
        const code = await node.exited;
        stage.expect(code === 0, `${node.name} ended with ${code}`);
        stage.watch.goes(node, before, 'its server was stopped');
        await node.start();
        outage.to = Date.now();
      }
    },
  },
  {
    id: 'N3p',
    title: 'a node loses its peers: Redis does not answer it alone',
    world: { ...world, redis: true },
    missing: missingRedis,
    shows: ['I1', 'I2', 'I3', 'I4'],
    async play({ world: { nodes, redisPaths }, dice, expect }) {
      const index = dice.between(0, 1);
      const [node, way] = [nodes[index] as ServerNode, redisPaths[index]];
      way?.cut();
      await delay(2 * leaseMs);
      for (const each of nodes) expect((await readyz(each)) === 200, `${each.name} was not ready`);
      way?.mend();
      const health = await waitFor(
        async () => await (await fetch(`${node.url}/api/claude/health`, { headers: adminHeaders })).text(),
        (text) => text.includes('"healthy"'),
      );
      expect(health.includes('"healthy"'), `${node.name} did not find Redis again: ${health}`);
    },
  },
  {
    id: 'S4n',
    title: 'several nodes lose their Redis',
    world: { ...world, redis: true },
    missing: missingRedis,
    shows: ['I1', 'I3', 'I4'],
    async play({ world: { redis }, dice }) {
      await redis?.kill();
      await delay(dice.between(1500, 3000));
      await redis?.start();
    },
  },
  {
    id: 'R5',
    title: 'the event loop of a node stands still for longer than its lease',
    world,
    missing,
    shows: ['I2', 'I3'],
    async play(stage) {
      const node = stage.dice.pick(stage.world.nodes);
      const goesOn = stops(stage, node, 'stood still');
      await node.evaluate(
        `(() => { const until = performance.now() + ${2 * leaseMs}; while (performance.now() < until); })()`,
      );
      goesOn();
      await ready(stage, node);
    },
  },
];
