import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogEvent, LogEventBody } from '@sallyport/protocol';
import { newApproval } from './approvals.ts';
import type { Approval, ToolCall, TranscriptState } from './ports.ts';
import { planRecovery as planOf, withdrawal, type Remains } from './recovery.ts';

const ref = { tenant: 't', conversation: 'c', turn: 'turn', epoch: 1 };
const user: LogEventBody = { type: 'user_message', text: 'go', message_uuid: 'u' };
const text = (words: string, id = 'm'): LogEventBody => ({ type: 'text', message_id: id, text: words });
const thinking = (words: string, id = 'm'): LogEventBody => ({ type: 'thinking', message_id: id, thinking: words });
const start = (id: string, name: string): LogEventBody => ({
  type: 'tool_start',
  tool_use_id: id,
  message_id: 'm',
  name,
  input: {},
  decided_by: 'mode',
});
const end = (id: string): LogEventBody => ({ type: 'tool_end', tool_use_id: id, ok: true, summary: 'fine' });
const logOf = (...bodies: LogEventBody[]): LogEvent[] =>
  bodies.map((body, index) => ({ seq: index + 1, turn: 'turn', at: 0, body }));

/** A transcript with these open calls, these closed ones, and these texts. */
function transcript(state: Partial<TranscriptState> = {}, texts: readonly string[] = []): TranscriptState {
  const none = { hasMessage: true, answered: false, open: [], closed: new Set<string>() };
  return { ...none, hasText: (_id, words) => texts.includes(words), ...state };
}

function approvalOf(id: string, status: Approval['status'], decision: Partial<Approval['decision']> = {}): Approval {
  const call: ToolCall = { id, messageId: 'm', name: 'Write', input: { file_path: 'a', content: 'x' } };
  const asked = { call, ref, key: 'k', reason: 'r', diff: null, at: 0, ttlSeconds: 1 };
  const made = { message: null, input: null, rule: null, ...decision };
  return { ...newApproval(asked), status, decision: made, decidedBy: 'k', decidedAt: 1 };
}

const planRecovery = (remains: Omit<Remains, 'filesLost'>) => planOf({ ...remains, filesLost: false });
const open = (...ids: string[]) => ids.map((toolUseId) => ({ toolUseId, name: 'Write' }));

test('a message that Claude Code has not taken is said again', () => {
  const plan = planRecovery({ events: logOf(user), transcript: transcript({ hasMessage: false }), approvals: [] });
  assert.deepEqual(plan, { kind: 'say' });
});

test('as long as a human has to decide, the turn waits', () => {
  const pending = approvalOf('one', 'pending');
  const plan = planRecovery({
    events: logOf(user),
    transcript: transcript({ open: open('one') }),
    approvals: [pending],
  });
  assert.deepEqual(plan, { kind: 'wait', approval: pending });
});

for (const name of ['Edit', 'Write', 'NotebookEdit', 'Bash', 'WebFetch']) {
  test(`a ${name} that was let run and has no end interrupts the turn`, () => {
    const events = logOf(user, start('one', name));
    const plan = planRecovery({ events, transcript: transcript({ open: open('one') }), approvals: [] });
    assert.equal(plan.kind, 'interrupted');
  });
}

test('a call that the transcript does not know interrupts the turn: the model would make it again', () => {
  const events = logOf(user, start('one', 'Write'), end('one'));
  assert.equal(planRecovery({ events, transcript: transcript(), approvals: [] }).kind, 'interrupted');
  const lost = transcript({ hasMessage: false });
  assert.equal(planRecovery({ events, transcript: lost, approvals: [] }).kind, 'interrupted');
});

test('each open call gets the outcome that the log and the human gave it', () => {
  const events = logOf(user, start('ended', 'Write'), end('ended'), start('read', 'Read'));
  const approvals = [approvalOf('denied', 'denied', { message: 'not so' }), approvalOf('late', 'expired')];
  const state = transcript({ open: open('ended', 'read', 'denied', 'late', 'never') });
  const plan = planRecovery({ events, transcript: state, approvals });
  assert.ok(plan.kind === 'go');
  assert.equal(plan.recovery.call, null);
  const { outcomes } = plan.recovery;
  assert.deepEqual(
    outcomes.map(({ toolUseId, ok }) => [toolUseId, ok]),
    [
      ['ended', true],
      ['read', false],
      ['denied', false],
      ['late', false],
      ['never', false],
    ],
  );
  assert.match(outcomes[0]!.text, /fine/u);
  assert.match(outcomes[2]!.text, /not so/u);
});

test('the call that a human allowed is made, with the input of the human, and only one of several', () => {
  const input = { file_path: 'a', content: 'changed' };
  const approvals = [approvalOf('one', 'allowed', { input }), approvalOf('two', 'allowed')];
  const state = transcript({ open: open('one', 'two') });
  const plan = planRecovery({ events: logOf(user), transcript: state, approvals });
  assert.ok(plan.kind === 'go');
  assert.deepEqual(plan.recovery.call, { toolUseId: 'one', input });
  assert.deepEqual(
    plan.recovery.outcomes.map(({ toolUseId }) => toolUseId),
    ['two'],
  );
});

test('an answer that is complete in transcript and log only lacks its end', () => {
  const state = transcript({ answered: true }, ['all of it']);
  const plan = (events: LogEvent[]) => planRecovery({ events, transcript: state, approvals: [] }).kind;
  assert.equal(plan(logOf(user, text('all of it'))), 'answered');
  assert.equal(plan(logOf(user, text('a part'))), 'interrupted');
  assert.equal(plan(logOf(user)), 'interrupted');
});

test('what is withdrawn is told again as far as Claude Code still knows it', () => {
  const events = logOf(user, thinking('hm'), text('kept'), text('lost'), thinking('unknown', 'n'));
  assert.deepEqual(withdrawal({ events, transcript: transcript({}, ['kept']) }), [
    { type: 'restart' },
    thinking('hm'),
    text('kept'),
  ]);
  const after = logOf(user, text('before'), start('one', 'Read'), end('one'), text('lost'));
  assert.deepEqual(withdrawal({ events: after, transcript: transcript({}, ['before']) }), [{ type: 'restart' }]);
});

test('what a turn wrote into a slot that is lost interrupts it, but not before a human has decided', () => {
  const events = logOf(user, start('one', 'Write'), end('one'));
  const state = transcript({ closed: new Set(['one']) });
  const lost = planOf({ events, transcript: state, approvals: [], filesLost: true });
  assert.ok(lost.kind === 'interrupted');
  assert.match(lost.detail, /lost, and with it what Write did/);
  assert.equal(planOf({ events, transcript: state, approvals: [], filesLost: false }).kind, 'go');
  const pending = approvalOf('two', 'pending');
  assert.equal(planOf({ events, transcript: state, approvals: [pending], filesLost: true }).kind, 'wait');
  const read = logOf(user, start('one', 'Read'), end('one'));
  assert.equal(planOf({ events: read, transcript: state, approvals: [], filesLost: true }).kind, 'go');
});
