import type { Fault } from './fault.ts';
import { clientFaults } from './faults/client.ts';
import { limitFaults } from './faults/limits.ts';
import { nodeFaults } from './faults/nodes.ts';
import { processFaults } from './faults/process.ts';
import { storeFaults } from './faults/store.ts';
import { upstreamFaults } from './faults/upstream.ts';
import { wireFaults } from './faults/wire.ts';

/** Faults of the catalogue that are not played, and why. */
const notPlayed: Readonly<Record<string, readonly [title: string, why: string]>> = {
  P8: ['a fork bomb in a tool', 'it needs a limit of processes by cgroup v2'],
  R1: ['Claude Code is killed for its memory', 'it needs cgroup v2'],
  R4: ['a tool takes all processors', 'it needs weights by cgroup v2'],
  C2: ['a peer whose packets are dropped', 'it needs rules for packets in a network namespace of its own'],
  F1: ['bodies, headers and frames by a grammar', 'it is played by fuzz tests beside the code'],
  L1: ['a day of load with a fault every half minute', '`npm run soak` plays it without most of the faults'],
};

/** All faults, those that are not played with the reason. */
export const catalogue: readonly Fault[] = [
  ...processFaults,
  ...upstreamFaults,
  ...clientFaults,
  ...wireFaults,
  ...storeFaults,
  ...nodeFaults,
  ...limitFaults,
  ...Object.entries(notPlayed).map(([id, [title, why]]) => ({
    id,
    title,
    shows: [],
    missing: () => why,
    play: async () => {},
  })),
];
