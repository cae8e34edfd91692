import { Look, type EventRow, type Finding, type Observed, type ToolRun } from '../history.ts';

/** The event that let a command run, found by the word in its input. */
const startOf = ({ events }: Observed, { word }: ToolRun): EventRow | undefined =>
  events.find(({ type, payload }) => type === 'tool_start' && JSON.stringify(payload['input']).includes(word));

/** I9: every tool that ran has its decision in the audit log before it and its outcome after it, and the chain is whole. */
export function audited(observed: Observed): Finding {
  const look = new Look();
  const { audit, events, auditBrokenAt } = observed;
  if (audit.length > 0)
    look.at(auditBrokenAt === null, () => `line ${auditBrokenAt} of the audit log does not fit its chain`);
  for (const run of observed.toolRuns) {
    const start = startOf(observed, run);
    const id = start?.payload['tool_use_id'];
    const lines = audit.filter(({ subject }) => id !== undefined && subject === id);
    const decided = lines.find(({ action }) => action === 'tool.start');
    look.at(decided !== undefined, () => `the command of ${run.word} ran without a line in the audit log`);
    if (decided === undefined || start === undefined) continue;
    look.at(
      decided.at <= run.at + 1,
      () => `the command of ${run.word} ran at ${run.at}, its line is of ${decided.at}`,
    );
    const { input_hash: hash, decided_by: by } = decided.details;
    look.at(Boolean(hash) && Boolean(by), () => `the line of ${run.word} does not say what was decided by whom`);
    const result = events.find(({ turn, type }) => turn === start.turn && type === 'result');
    // A turn that was cut while the tool ran cannot know its outcome, and says so.
    const isCut = result !== undefined && result.payload['result']?.['stop_reason'] !== 'end_turn';
    const isEnded = lines.some(({ action }) => action === 'tool.end' || action === 'tool.denied');
    look.at(isEnded || isCut, () => `the command of ${run.word} has no outcome in the audit log`);
  }
  return look.finding;
}

/** I14: a gated tool ran only as a human had allowed it, for that very input, before the approval's time was over. */
export function approvedFirst(observed: Observed): Finding {
  const look = new Look();
  const { approvals, audit, gated } = observed;
  for (const run of observed.toolRuns.filter(({ word }) => gated.includes(word))) {
    const id = startOf(observed, run)?.payload['tool_use_id'];
    const asked = approvals.find(({ toolUseId }) => toolUseId === id);
    look.at(asked?.status === 'allowed', () => `the command of ${run.word} ran, and its approval is ${asked?.status}`);
    if (asked === undefined) continue;
    const { decidedAt, expiresAt } = asked;
    look.at(
      decidedAt !== null && decidedAt <= run.at + 1,
      () => `the command of ${run.word} ran at ${run.at}, allowed at ${decidedAt}`,
    );
    look.at(
      decidedAt !== null && decidedAt <= expiresAt,
      () => `the approval of ${run.word} was decided when it was over`,
    );
    const ran = audit.find(({ action, subject }) => action === 'tool.start' && subject === asked.toolUseId);
    const hash = String(ran?.details['input_hash']);
    look.at(
      asked.inputHashes.includes(hash),
      () => `the command of ${run.word} ran with an input that nobody approved`,
    );
  }
  return look.finding;
}

/** After an acknowledged cancel no tool of its turn starts; so many milliseconds are for what was just starting. */
export const graceMs = 1000;

/** I15: a cancel is final. */
export function cancelled(observed: Observed): Finding {
  const look = new Look();
  const acknowledged = observed.operations.filter(
    ({ what, status, received }) => what === 'cancel' && status === 200 && received.includes('true'),
  );
  for (const cancel of acknowledged) {
    const late = observed.toolRuns.find(({ word, at }) => word === cancel.word && at > cancel.endedAt + graceMs);
    look.inTime(
      late === undefined,
      () => `the command of ${cancel.word} ran at ${late?.at}, cancelled at ${cancel.endedAt}`,
    );
    const turn = observed.turns.find(({ word }) => word === cancel.word);
    const found = () => `the turn of ${cancel.word} ended at ${turn?.endedAt}, cancelled at ${cancel.endedAt}`;
    look.at(turn?.endedAt !== null, found);
    look.inTime((turn?.endedAt ?? 0) <= cancel.endedAt + graceMs, found);
  }
  return look.finding;
}

/** I16: while policy, audit log or keys cannot be asked, nothing runs but what was let run before. */
export function failedClosed(observed: Observed): Finding {
  const look = new Look();
  for (const { from, to, what } of observed.undecidable) {
    const ran = observed.toolRuns.filter((run) => {
      const decidedAt = startOf(observed, run)?.at ?? Infinity;
      return run.at > from && run.at < to && decidedAt > from;
    });
    const words = ran.map(({ word }) => word).join(', ');
    look.at(ran.length === 0, () => `${what} from ${from} to ${to}, and the commands of ${words} ran`);
  }
  return look.finding;
}
