import { isReadTool, type LogEvent, type LogEventBody } from '@sallyport/protocol';
import { toldToClaude } from './approvals.ts';
import type { Approval, Recovery, TranscriptState } from './ports.ts';

/** How a turn that lost its process goes on. */
export type RecoveryPlan =
  /** Claude Code has not taken the message: it is said again. */
  | { readonly kind: 'say' }
  /** A human has still to decide. */
  | { readonly kind: 'wait'; readonly approval: Approval }
  /** The model had ended its answer; only the turn's end was missing. */
  | { readonly kind: 'answered' }
  /** Something may have run, and nobody knows how far: the user decides. */
  | { readonly kind: 'interrupted'; readonly detail: string }
  | { readonly kind: 'go'; readonly recovery: Recovery };

/** What is known of a turn that lost its process. */
export interface Remains {
  /** The turn's own events. */
  readonly events: readonly LogEvent[];
  readonly transcript: TranscriptState;
  /** The turn's approvals. */
  readonly approvals: readonly Approval[];
  /** True when what the turn wrote into its slot is gone with its node. */
  readonly filesLost: boolean;
}

type Outcome = Recovery['outcomes'][number];
type Of<T extends LogEventBody['type']> = Extract<LogEventBody, { type: T }>;

const mayHaveRun = (name: string): string =>
  `The run was cut while ${name} was running, so it may have run in part. Look at the workspace, then continue.`;
const lostWith = (name: string): string =>
  `The machine that ran this is lost, and with it what ${name} did: the files are as they were before this message. ` +
  'Continue to have it done again.';
const notMade = 'The service was restarted before this call was made. Make it again if it is still needed.';
const cutRead = 'The service was restarted during this call. Make it again if it is still needed.';

/** The log of a turn by tool call. */
class Calls {
  readonly starts = new Map<string, Of<'tool_start'>>();
  readonly ends = new Map<string, Of<'tool_end'>>();
  readonly denials = new Map<string, Of<'tool_denied'>>();

  constructor(events: readonly LogEvent[]) {
    for (const { body } of events) {
      if (body.type === 'tool_start') this.starts.set(body.tool_use_id, body);
      if (body.type === 'tool_end') this.ends.set(body.tool_use_id, body);
      if (body.type === 'tool_denied') this.denials.set(body.tool_use_id, body);
    }
  }

  /** Calls that were let run and have no end. */
  running(): Of<'tool_start'>[] {
    return [...this.starts.values()].filter(({ tool_use_id: id }) => !this.ends.has(id) && !this.denials.has(id));
  }
}

/** Says how a turn goes on. Pure. */
export function planRecovery({ events, transcript, approvals, filesLost }: Remains): RecoveryPlan {
  const pending = approvals.find(({ status }) => status === 'pending');
  if (pending) return { kind: 'wait', approval: pending };
  const calls = new Calls(events);
  const changing = calls.running().find(({ name }) => !isReadTool(name));
  if (changing) return { kind: 'interrupted', detail: mayHaveRun(changing.name) };
  const changed = [...calls.starts.values()].find(({ name }) => !isReadTool(name));
  if (filesLost && changed) return { kind: 'interrupted', detail: lostWith(changed.name) };
  const known = new Set([...transcript.closed, ...transcript.open.map(({ toolUseId }) => toolUseId)]);
  const unknown = [...calls.starts.values()].find(({ tool_use_id: id }) => !known.has(id));
  if (unknown) return { kind: 'interrupted', detail: mayHaveRun(unknown.name) };
  if (!transcript.hasMessage) return { kind: 'say' };
  if (transcript.open.length === 0 && transcript.answered) return answered(events, transcript);
  return { kind: 'go', recovery: recoveryOf(transcript, calls, approvals) };
}

/** The answer counts as given when its last text reached the log too: else a client would miss it. */
function answered(events: readonly LogEvent[], transcript: TranscriptState): RecoveryPlan {
  const last = events.at(-1)?.body;
  if (last?.type === 'text' && transcript.hasText(last.message_id, last.text)) return { kind: 'answered' };
  return { kind: 'interrupted', detail: 'The run was cut at the end of its answer. Continue to hear the rest.' };
}

function recoveryOf(transcript: TranscriptState, calls: Calls, approvals: readonly Approval[]): Recovery {
  const outcomes: Outcome[] = [];
  let call: Recovery['call'] = null;
  for (const { toolUseId } of transcript.open) {
    const approval = approvals.find((one) => one.toolUseId === toolUseId);
    const told = outcomeOf(toolUseId, calls, approval);
    if (told) outcomes.push({ toolUseId, ...told });
    else if (call === null && approval) call = { toolUseId, input: approval.decision?.input ?? approval.input };
    else outcomes.push({ toolUseId, text: notMade, ok: false });
  }
  return { outcomes, call };
}

/** What is known of a call that has no outcome in the transcript; null: a human has allowed it, and it was not made. */
function outcomeOf(id: string, calls: Calls, approval: Approval | undefined): Pick<Outcome, 'text' | 'ok'> | null {
  const end = calls.ends.get(id);
  if (end) {
    const text = `The call was made before the service was restarted. Its outcome began with: ${end.summary}`;
    return { text, ok: end.ok };
  }
  const denial = calls.denials.get(id);
  if (denial) return { text: `${denial.reason} The call was not made.`, ok: false };
  if (calls.starts.has(id)) return { text: cutRead, ok: false };
  if (!approval) return { text: notMade, ok: false };
  return approval.status === 'allowed' ? null : { text: toldToClaude(approval), ok: false };
}

/**
 * What is written before a turn goes on in another process. Clients may have been told text that was never recorded, so
 * everything since the last event of another type is withdrawn, and what Claude Code still knows of it told again.
 */
export function withdrawal({ events, transcript }: Pick<Remains, 'events' | 'transcript'>): LogEventBody[] {
  const after = events.findLastIndex(({ body }) => body.type !== 'text' && body.type !== 'thinking') + 1;
  const span = events.slice(after).map(({ body }) => body);
  const texts = span.filter((body) => body.type === 'text');
  const kept = texts.filter((body) => transcript.hasText(body.message_id, body.text));
  // Claude Code forgets an answer of which it has no text yet, its thinking too.
  const ids = new Set(kept.map((body) => body.message_id));
  const stays = span.filter((body) =>
    body.type === 'text' ? kept.includes(body) : body.type === 'thinking' && ids.has(body.message_id),
  );
  return [{ type: 'restart' }, ...stays];
}
