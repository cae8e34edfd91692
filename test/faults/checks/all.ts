import type { Finding, Observed } from '../history.ts';
import { exactLog, oneWriter } from './log.ts';
import { cameBack, cleanRefusals, noneOutlives, withinBudgets } from './resources.ts';
import { approvedFirst, audited, cancelled, failedClosed } from './tools.ts';
import { fullContext, nothingLost, oncePerKey, oneEnd } from './turns.ts';
import { keptApart, noSecrets } from './walls.ts';

/** What must hold of every run, whatever happened in it. */
export const invariants = {
  I1: { says: 'no acknowledged turn or decision is lost', check: nothingLost },
  I2: { says: 'a conversation has one writer', check: oneWriter },
  I3: { says: 'every turn ends once, in bounded time', check: oneEnd },
  I4: { says: 'the log has no gap, and a cursor gives the exact rest', check: exactLog },
  I5: { says: 'a key runs once, and a command too', check: oncePerKey },
  I6: { says: 'conversations go on with full context', check: fullContext },
  I7: { says: 'no process outlives its owner', check: noneOutlives },
  I8: { says: 'spending keeps to budgets and is booked', check: withinBudgets },
  I9: { says: 'every tool that ran is in the audit log', check: audited },
  I10: { says: 'tenants meet no other', check: keptApart },
  I11: { says: 'no secret is seen', check: noSecrets },
  I12: { says: 'everything comes back', check: cameBack },
  I13: { says: 'it lives, and refuses cleanly', check: cleanRefusals },
  I14: { says: 'a gated tool runs only as approved', check: approvedFirst },
  I15: { says: 'a cancel is final', check: cancelled },
  I16: { says: 'what cannot be decided does not run', check: failedClosed },
} as const satisfies Record<string, { says: string; check: (observed: Observed) => Finding }>;

export type Invariant = keyof typeof invariants;

/** The invariants in their order. */
export const invariantNames = Object.keys(invariants) as Invariant[];
