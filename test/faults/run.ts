import { setTimeout as delay } from 'node:timers/promises';
import { Dice } from '../../soak/random.ts';
import { invariantNames, invariants, type Invariant } from './checks/all.ts';
import type { Fault } from './fault.ts';
import { History, type Finding, type Observed } from './history.ts';
import { Load } from './load.ts';
import { observe } from './observe.ts';
import { figures, held, Watch } from './watch.ts';
import { startWorld, type World } from './world.ts';

/** How much is done for each fault: its seed, for how long the load lasts, and how many clients each tenant has. */
export interface Size {
  seed: number;
  seconds: number;
  clients: number;
}

/** What became of one fault. */
export interface Outcome {
  fault: string;
  title: string;
  seed: number;
  seconds: number;
  clients: number;
  /** Null: it was played. */
  notPlayed: string | null;
  findings: Partial<Record<Invariant, Finding>>;
  /** What the catalogue expects of this fault and did not happen. */
  unmet: string[];
  expected: number;
  notes: string[];
  operations: number;
  /** Everything held, though perhaps not in time. */
  sound: boolean;
  /** Everything held, and in time. */
  held: boolean;
  /** All that is known of the run, to be looked at; null until it is over. */
  observed: Observed | null;
}

/** Longest time for what runs to end when nothing new is begun, and for figures to come back. */
const settleMs = 120_000;
const returnMs = 300_000;

/** Plays one fault at a moment that follows from the seed, and looks at what is left of the invariants. */
export async function playFault(fault: Fault, { seed, seconds, clients }: Size): Promise<Outcome> {
  const outcome: Outcome = {
    fault: fault.id,
    title: fault.title,
    seed,
    seconds,
    clients,
    notPlayed: fault.missing?.() ?? null,
    findings: {},
    unmet: [],
    expected: 0,
    notes: [],
    operations: 0,
    sound: false,
    held: false,
    observed: null,
  };
  if (outcome.notPlayed !== null) return outcome;
  const world = await startWorld(fault.world ?? {});
  try {
    await playIn(world, fault, outcome, clients);
  } finally {
    await world.remove();
  }
  outcome.sound =
    outcome.unmet.length === 0 &&
    invariantNames.every((name) => (outcome.findings[name]?.violations.length ?? 0) === 0);
  outcome.held = outcome.sound && lateIn(outcome).length === 0;
  return outcome;
}

/** What held, but not in time. */
export const lateIn = ({ findings }: Pick<Outcome, 'findings'>): string[] =>
  invariantNames.flatMap((name) => (findings[name]?.late ?? []).map((each) => `${name}: ${each}`));

async function playIn(world: World, fault: Fault, outcome: Outcome, clients: number): Promise<void> {
  const { seed, seconds } = outcome;
  const [history, watch] = [new History(), new Watch(world)];
  const load = new Load(world, history, { seed, clients, timeout: fault.timeoutSeconds ?? 120 });
  const expect = (holds: boolean, what: string) => {
    outcome.expected += 1;
    if (!holds) outcome.unmet.push(what);
  };
  const begun = performance.now();
  const note = (what: string) =>
    void outcome.notes.push(`${((performance.now() - begun) / 1000).toFixed(1)} s: ${what}`);
  await load.warmUp();
  await load.settle(settleMs);
  const before = await held(world);
  watch.start();
  note('the load begins');
  const dice = new Dice(seed, fault.id);
  const over = new AbortController();
  const loading = load.play(over.signal);
  await delay(seconds * 1000 * (0.2 + 0.4 * dice.number()));
  const sinceMs = performance.now();
  try {
    await fault.play({ world, watch, load, history, dice, expect, note });
    await delay(Math.max(0, seconds * 300 - (performance.now() - sinceMs)));
  } finally {
    over.abort();
  }
  note('no more load');
  // Clients wait for humans, who from now on deny what is pending.
  await Promise.all([loading, load.settle(settleMs)]);
  note('its clients are done');
  world.disturb = () => null;
  expect(await load.settle(settleMs), 'not every turn has ended');
  note('all turns have ended');
  await load.goOn();
  note('conversations have gone on');
  expect(await load.settle(settleMs), 'not every turn has ended after the last ones');
  await watch.end();
  await watch.compare();
  const found = before === null ? { figures: [], ms: 0 } : await figures(world, before, returnMs);
  note('everything was measured');
  const observed = await observe(world, history, watch, load.done, found);
  if (fault.longestTurnMs !== undefined) observed.longestTurnMs = fault.longestTurnMs;
  note('all logs are read');
  await world.stop();
  await watch.afterStop();
  note('all servers have stopped');
  Object.assign(observed, { watched: watch.watched, lines: world.nodes.flatMap((node) => node.lines()) });
  for (const name of invariantNames) outcome.findings[name] = invariants[name].check(observed);
  Object.assign(outcome, { observed, operations: observed.operations.length });
  for (const name of fault.shows)
    expect((outcome.findings[name]?.seen ?? 0) > 0, `there was nothing to see of ${name}`);
}
