import type { StreamEvent } from '@sallyport/protocol';
import type { Observed, Operation, Told } from '../history.ts';

const [first, second] = ['fault-alpha-000000000001', 'fault-alpha-000000000002'];
const credential = 'node-1';
const plain = { content: '', role: 'assistant', tools_used: [], is_complete: false, error: null };

const told = (seq: number, event: object): Told => ({
  id: `${seq}.0`,
  event: { ...plain, ...event } as object as StreamEvent,
});
const text = (seq: number, content: string): Told => told(seq, { type: 'text_delta', content });
const end = (seq: number): Told => told(seq, { type: 'result', stop_reason: 'end_turn', is_complete: true });

const whole: Told[] = [
  told(1, { type: 'user_message', role: 'user', content: `My word is ${first}.` }),
  text(2, `You said ${first}.`),
  end(3),
  told(4, { type: 'user_message', role: 'user', content: `My word is ${second}.` }),
  told(5, { type: 'approval_requested', approval: { approval_id: 'ap' } }),
  told(6, { type: 'tool_start', tool_use_id: 'tool', name: 'Bash', input: { command: second } }),
  told(7, { type: 'tool_end', tool_use_id: 'tool', ok: true, summary: '' }),
  text(8, `You said ${first}, ${second}.`),
  end(9),
];

const operation = (number: number, of: Partial<Operation>): Operation => ({
  number,
  tenant: 'alpha',
  what: 'continue',
  path: 'conversation/c/continue',
  conversation: 'c',
  word: null,
  key: null,
  body: null,
  invokedAt: number * 1000,
  endedAt: number * 1000 + 500,
  outcome: 'ok',
  status: 200,
  code: null,
  retryAfter: null,
  received: '',
  events: [],
  left: false,
  ...of,
});

const rows = (): Observed['events'] =>
  whole.map(({ event }, index) => {
    const { type, content, ...rest } = event as unknown as Record<string, any>;
    const payload = type === 'result' ? { result: { stop_reason: 'end_turn' } } : { ...rest, text: content };
    const turn = index < 3 ? 't1' : 't2';
    const stored = type === 'text_delta' ? 'text' : (type as string);
    return { tenant: 'alpha', conversation: 'c', seq: index + 1, turn, at: 1000 + index * 100, type: stored, payload };
  });

const operations = (): Operation[] => [
  operation(1, {
    what: 'start',
    path: 'conversation/start?session_id=c',
    word: first,
    key: 'k',
    body: 'one',
    received: JSON.stringify({
      stop_reason: 'end_turn',
      messages: [{ role: 'assistant', content: `You said ${first}.` }],
    }),
  }),
  operation(2, { word: second, events: structuredClone(whole.slice(4)) }),
  operation(3, {
    what: 'decide',
    path: 'approvals/ap',
    received: JSON.stringify({ status: 'allowed' }),
  }),
  operation(4, { what: 'follow', path: 'conversation/c/events?after=3.0', events: structuredClone(whole.slice(3)) }),
  operation(5, { what: 'cancel', word: second, received: JSON.stringify({ interrupted: true }) }),
  operation(6, {
    what: 'query',
    outcome: 'fail',
    status: 503,
    code: 'overloaded',
    retryAfter: '1',
    received: JSON.stringify({ code: 'overloaded', retryable: true }),
  }),
];

const turn = (number: 1 | 2) => ({
  tenant: 'alpha',
  id: `t${number}`,
  conversation: 'c',
  epoch: number,
  state: 'completed',
  word: number === 1 ? first : second,
  stopReason: 'end_turn',
  acceptedAt: 1000 * number,
  endedAt: 1000 * number + 800,
});

const call = (word: string, words: string[], at: number) => ({
  at,
  finishedAt: at + 50,
  outcome: 'answered' as const,
  words,
  word,
  credential,
});

const booked = (number: 1 | 2) => ({
  tenant: 'alpha',
  turn: `t${number}`,
  at: 1000,
  status: 200,
  inputTokens: 10,
  outputTokens: 5,
  costUsd: 0.4,
});

const line = (seq: number, at: number, action: string, details: Record<string, unknown>) => ({
  seq,
  at,
  tenant: 'alpha',
  action,
  turn: 't2',
  subject: 'tool',
  details,
});

/** A run in which everything is as it should be: one conversation with two turns, the second with a gated command. */
export const soundRun = (): Observed => ({
  tenants: ['alpha', 'bravo'],
  operations: operations(),
  calls: [call(first, [first], 1100), call(second, [first, second], 2100)],
  logs: [
    {
      tenant: 'alpha',
      conversation: 'c',
      whole: structuredClone(whole),
      after: { '3.0': structuredClone(whole.slice(3)), '9.0': [] },
    },
  ],
  turns: [turn(1), turn(2)],
  events: rows(),
  approvals: [
    {
      tenant: 'alpha',
      id: 'ap',
      turn: 't2',
      toolUseId: 'tool',
      status: 'allowed',
      decidedAt: 2200,
      expiresAt: 90_000,
      inputHashes: ['h'],
    },
  ],
  usage: [booked(1), booked(2)],
  audit: [
    line(1, 2300, 'tool.start', { input_hash: 'h', decided_by: 'approval' }),
    line(2, 2400, 'tool.end', { ok: true }),
  ],
  auditBrokenAt: null,
  toolRuns: [{ word: second, at: 2350 }],
  gated: [second],
  finals: [second],
  watched: 3,
  leftovers: [],
  liveMs: 1000,
  probes: [{ at: 1000, ms: 5, status: 200 }],
  figures: [{ what: 'timers', before: 1, after: 2, atMost: 5 }],
  figuresMs: 500,
  budgets: { alpha: 1 },
  places: 2,
  secrets: { key: 'sk-secret' },
  surroundings: ['claude --print PATH=/bin'],
  lines: ['{"tenant":"alpha","msg":"model call"}'],
  outages: [],
  frozen: [],
  undecidable: [{ from: 10_000, to: 11_000, what: 'the audit log was down' }],
  longestTurnMs: 60_000,
});
