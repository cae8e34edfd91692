import { approvalAttempts } from './approvals.ts';
import { fileAttempts } from './files.ts';
import { floodAttempts } from './floods.ts';
import { laterAttempts } from './later.ts';
import { limitAttempts } from './limits.ts';
import { networkAttempts } from './network.ts';
import { plantingAttempts } from './planting.ts';
import { processAttempts } from './processes.ts';
import { recordAttempts } from './records.ts';
import { secretAttempts } from './secrets.ts';
import { toolAttempts } from './tools.ts';
import { trapAttempts } from './traps.ts';
import type { CallAttempt, LaterAttempt, StoryAttempt } from '../attempt.ts';

/** Attempts of the run that all of a mode share. */
export const callAttempts: readonly CallAttempt[] = [
  ...toolAttempts,
  ...fileAttempts,
  ...plantingAttempts,
  ...secretAttempts,
  ...networkAttempts,
  ...processAttempts,
  ...limitAttempts,
];

/** Attempts in that run's repository afterwards, in this order. */
export const afterwards: readonly LaterAttempt[] = [...trapAttempts, ...laterAttempts, ...recordAttempts];

/** Attempts with runs of their own. */
export const storyAttempts: readonly StoryAttempt[] = [...approvalAttempts, ...floodAttempts];

/** How many attempts there are, each counted once for every mode in which it is to be made. */
export const declared: number = [...callAttempts, ...afterwards, ...storyAttempts].reduce(
  (sum, { modes }) => sum + modes.length,
  0,
);
