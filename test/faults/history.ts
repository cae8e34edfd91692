import type { StreamEvent } from '@sallyport/protocol';

/** A wire event with its cursor. */
export interface Told {
  id: string | null;
  event: StreamEvent;
}

/** What a client did, and what it knows of it. `unknown`: no whole answer came, so it may have been done. */
export interface Operation {
  /** From 1, in the order of their beginning. */
  number: number;
  tenant: string;
  what: 'query' | 'stream' | 'start' | 'continue' | 'decide' | 'cancel' | 'follow' | 'read' | 'delete' | 'wrong';
  path: string;
  conversation: string | null;
  /** Word of the prompt that was sent. */
  word: string | null;
  /** `Idempotency-Key`, with the body it was sent with. */
  key: string | null;
  body: string | null;
  /** Milliseconds since 1970. */
  invokedAt: number;
  endedAt: number;
  outcome: 'ok' | 'fail' | 'unknown';
  status: number | null;
  code: string | null;
  retryAfter: string | null;
  /** All that came, as text; of what is very long the beginning. */
  received: string;
  events: Told[];
  /** True: the client left by its own wish. */
  left: boolean;
}

/** A call of the model, as the upstream saw it. */
export interface UpstreamCall {
  at: number;
  finishedAt: number | null;
  outcome: 'pending' | 'answered' | 'faulted' | 'client_left';
  /** All words in its messages, in their order; the last user's word is that of the turn. */
  words: string[];
  word: string | null;
  /** The credential it came with, which tells the nodes apart. */
  credential: string;
}

/** The log of a conversation as its owner reads it at the end, and again after cursors that were handed out. */
export interface ReadLog {
  tenant: string;
  conversation: string;
  whole: Told[];
  /** By cursor: what the service gives after it; null: it refused the cursor. */
  after: Record<string, Told[] | null>;
}

/** A command that left its mark: a word and the moment in which it ran, milliseconds since 1970. */
export interface ToolRun {
  word: string;
  at: number;
}

/** A time in which something held. */
export interface Span {
  from: number;
  to: number;
  what: string;
}

/** A process that is there although its owner is gone. */
export interface Leftover {
  pid: number;
  command: string;
  why: string;
}

/** A request to `/livez`. `ms` is null when it failed; where only `status` is, no answer was waited for any longer. */
export interface Probe {
  at: number;
  ms: number | null;
  status: number | null;
}

/** What a service holds on to, by name: as it was before the load, as it is at rest after it, and how much more it may be. */
export interface Figure {
  what: string;
  before: number;
  after: number;
  atMost: number;
}

export interface TurnRow {
  tenant: string;
  id: string;
  conversation: string;
  epoch: number;
  state: string;
  word: string | null;
  stopReason: string | null;
  acceptedAt: number;
  endedAt: number | null;
}

export interface EventRow {
  tenant: string;
  conversation: string;
  seq: number;
  turn: string;
  at: number;
  type: string;
  payload: Record<string, any>;
}

export interface ApprovalRow {
  tenant: string;
  id: string;
  turn: string;
  toolUseId: string;
  status: string;
  decidedAt: number | null;
  expiresAt: number;
  /** Of the input that was shown, and of the one that a human put in its place. */
  inputHashes: string[];
}

export interface UsageRow {
  tenant: string;
  turn: string;
  at: number;
  status: number;
  inputTokens: number;
  outputTokens: number;
  costUsd: number | null;
}

/** A line of the audit log as the service gives it out. */
export interface AuditRow {
  seq: number;
  at: number;
  tenant: string;
  action: string;
  turn: string | null;
  subject: string | null;
  details: Record<string, unknown>;
}

/** All that is known of one run: what the clients did, and what was seen from outside. */
export interface Observed {
  tenants: string[];
  operations: Operation[];
  calls: UpstreamCall[];
  logs: ReadLog[];
  turns: TurnRow[];
  events: EventRow[];
  approvals: ApprovalRow[];
  usage: UsageRow[];
  audit: AuditRow[];
  /** The first place of the audit log that does not fit its chain; null: it is whole. */
  auditBrokenAt: number | null;
  toolRuns: ToolRun[];
  /** Words of turns in which a human decides about each command. */
  gated: string[];
  /** Words of the last turns of conversations, which had to end well. */
  finals: string[];
  /** How many processes were watched, and those that outlived their owner. */
  watched: number;
  leftovers: Leftover[];
  probes: Probe[];
  /** Longest answer of `/livez`, in milliseconds: clients, upstream and service share a machine. */
  liveMs: number;
  figures: Figure[];
  /** How long it took until all of them were back, or it was waited no more, in milliseconds. */
  figuresMs: number;
  /** USD that a tenant may spend; of those with a budget. */
  budgets: Record<string, number>;
  /** Turns that run at once. */
  places: number;
  /** By name; none of them may be seen anywhere. */
  secrets: Record<string, string>;
  /** Arguments and environments of processes of Claude Code, lines of the services' logs. */
  surroundings: string[];
  lines: string[];
  /** When no server was there, on purpose. */
  outages: Span[];
  /** When a node was stopped where it was, by the credential of its calls. */
  frozen: (Span & { credential: string })[];
  /** When policy, audit log or keys could not be asked. */
  undecidable: Span[];
  /** Longest time of a turn, waiting for humans aside, in milliseconds. */
  longestTurnMs: number;
}

/** What one knows who looks at a run through one invariant. */
export interface Finding {
  /** How many things were looked at; 0: nothing is known. */
  seen: number;
  violations: string[];
  /** What held, but later than it should: a machine that is busy with other things can be the reason too. */
  late: string[];
}

/** Collects the findings of one invariant. */
export class Look {
  seen = 0;
  readonly violations: string[] = [];
  readonly late: string[] = [];

  /** Looks at one thing: it holds, or `what` says what was found. */
  at(holds: boolean, what: () => string): void {
    this.seen += 1;
    if (!holds) this.violations.push(what());
  }

  /** Looks at how long one thing took: it was in time, or `what` says how long. */
  inTime(isInTime: boolean, what: () => string): void {
    this.seen += 1;
    if (!isInTime) this.late.push(what());
  }

  get finding(): Finding {
    return { seen: this.seen, violations: this.violations, late: this.late };
  }
}

const wordPattern = /\bfault-([a-z]+)-[0-9a-f]{12}\b/gu;

/** The words of a text, each once, in their order. */
export const wordsIn = (text: string): string[] => [...new Set(text.match(wordPattern))];

/** The tenant whose word it is: so each word is a canary of its tenant. */
export const tenantOf = (word: string): string => word.split('-')[1] ?? '';

const longest = 400;

/** A value for a report. */
export const shown = (value: unknown): string => (JSON.stringify(value) ?? 'undefined').slice(0, longest);

/** Keeps what clients do, in the order of their beginnings. */
export class History {
  readonly operations: Operation[] = [];

  /** Notes that something is begun; what is known of it later is written into it. */
  begin(of: Pick<Operation, 'tenant' | 'what' | 'path'> & Partial<Operation>): Operation {
    const operation: Operation = {
      conversation: null,
      word: null,
      key: null,
      body: null,
      outcome: 'unknown',
      status: null,
      code: null,
      retryAfter: null,
      received: '',
      events: [],
      left: false,
      ...of,
      number: this.operations.length + 1,
      invokedAt: Date.now(),
      endedAt: Number.MAX_SAFE_INTEGER,
    };
    this.operations.push(operation);
    return operation;
  }
}
