import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import type { BrokerTurn, ToolVerdict, WorkspaceView } from '../engine/ports.ts';
import { order, TestHost } from './runner-support.ts';
import { Turn } from './turn.ts';

const view: WorkspaceView = {
  root: '/',
  hostRoot: '/',
  readFile: async () => null,
  stamps: async () => null,
};
const brokerTurn: BrokerTurn = {
  calls: [],
  spentUsd: () => 0,
  asked: new Promise(() => {}),
  budgetReached: () => false,
  callsReached: () => false,
  failure: () => null,
  settle: async () => {},
};

/** A turn whose Claude Code has said how it started, and the rest of a recorded run. */
function started(host = new TestHost()) {
  const asked = order({ profile: { tools: ['Read'] } });
  const turn = new Turn(asked, host, { info() {}, warn() {}, error() {} });
  const init = {
    type: 'system',
    subtype: 'init',
    tools: ['Read'],
    permissionMode: 'default',
    mcp_servers: [],
    session_id: asked.sdkSession,
  } as unknown as SDKMessage;
  const file = readFileSync(join(import.meta.dirname, 'testdata/tools.json'), 'utf8');
  const [, ...messages] = JSON.parse(file) as SDKMessage[];
  const duties = turn.duties(() => view, brokerTurn);
  return { turn, host, init, messages, duties };
}

const call = { id: 'toolu_1', name: 'Read', input: { file_path: 'a.txt' } };

test('a tool call waits for the text before it, and names its message', async () => {
  const { turn, host, init, messages, duties } = started();
  turn.take(init);
  const verdict = duties.toolCall(call);
  const made = messages.findIndex(
    (message) => message.type === 'assistant' && JSON.stringify(message).includes(call.id),
  );
  for (const message of messages.slice(0, made + 1)) turn.take(message);
  assert.equal((await verdict).behavior, 'allow');
  const [text, allowed] = host.events;
  assert.ok(text?.type === 'text' && allowed?.type === 'allowed');
  assert.deepEqual([allowed.call.messageId, allowed.call.id], [text.message_id, 'toolu_1']);
});

test('a tool call whose message never comes is asked about all the same', async () => {
  const { turn, host, init, duties } = started();
  turn.take(init);
  assert.equal((await duties.toolCall(call)).behavior, 'allow');
  const [allowed] = host.events;
  assert.ok(allowed?.type === 'allowed' && allowed.call.messageId === null);
});

test('no tool is asked about before Claude Code has said how it started', async () => {
  const { host, duties } = started();
  await assert.rejects(duties.toolCall(call), /how it started/);
  assert.deepEqual(host.events, []);
});

test('nothing is allowed after a stop, whatever was decided meanwhile', async () => {
  const { turn, host, init, duties } = started();
  turn.take(init);
  const decision = Promise.withResolvers<ToolVerdict>();
  host.toolCall = () => decision.promise;
  const pending = duties.toolCall(call);
  await new Promise((resolve) => setTimeout(resolve, 300));
  turn.abort();
  decision.resolve({ behavior: 'allow' });
  assert.equal((await pending).behavior, 'deny');
  host.toolCall = () => assert.fail('nobody is asked after a stop');
  assert.equal((await duties.toolCall({ ...call, id: 'toolu_2' })).behavior, 'deny');
  assert.equal(await duties.batchEnded(), 'stop');
});

test('the first reason to stop counts', async () => {
  const { turn } = started();
  turn.abort();
  turn.fail(new Error('later'));
  await turn.stopping;
  assert.deepEqual(turn.stop, { kind: 'aborted' });
});

test('an event that is not committed, and a delta that is not taken, stop the turn', async () => {
  for (const broken of ['record', 'delta'] as const) {
    const { turn, init, messages } = started(
      Object.assign(new TestHost(), {
        [broken]: () => {
          throw new Error('boom');
        },
      }),
    );
    for (const message of [init, ...messages]) turn.take(message);
    await turn.committed();
    assert.equal(turn.stop?.kind, 'broken', broken);
  }
});

test('the end waits for what is being committed and for what is being decided', async () => {
  const { turn, host, init, messages, duties } = started();
  const commit = Promise.withResolvers<void>();
  const decision = Promise.withResolvers<ToolVerdict>();
  host.record = () => commit.promise;
  host.toolCall = () => decision.promise;
  for (const message of [init, ...messages]) turn.take(message);
  void duties.toolCall(call);
  let committed = false;
  await new Promise((resolve) => setImmediate(resolve));
  const end = turn.committed().then(() => (committed = true));
  commit.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(committed, false);
  decision.resolve({ behavior: 'deny', message: 'no' });
  await end;
});
