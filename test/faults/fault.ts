import type { Dice } from '../../soak/random.ts';
import type { Invariant } from './checks/all.ts';
import type { History } from './history.ts';
import type { Load } from './load.ts';
import type { Watch } from './watch.ts';
import type { World, WorldOptions } from './world.ts';

/** What a fault is played with. */
export interface Stage {
  world: World;
  watch: Watch;
  load: Load;
  history: History;
  dice: Dice;
  /** Notes whether what the catalogue expects of this fault happened. */
  expect(holds: boolean, what: string): void;
  /** Tells what is done, for the report. */
  note(what: string): void;
}

/** A fault of the catalogue. */
export interface Fault {
  /** As the catalogue names it. */
  id: string;
  title: string;
  world?: WorldOptions;
  /** Invariants that a run has to show: it fails when there was nothing to look at. */
  shows: readonly Invariant[];
  /** Why this machine cannot play it; null: it can. */
  missing?: () => string | null;
  /** What the clients of the load give a turn; default 120. */
  timeoutSeconds?: number;
  /** Longest time of a turn, where it is told by a clock that jumps, in milliseconds. */
  longestTurnMs?: number;
  /** Plays it while the load goes on. What it broke must be whole again, or have been taken over, when it resolves. */
  play(stage: Stage): Promise<void>;
}
