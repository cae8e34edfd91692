import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import { startOfLog } from '@sallyport/protocol';
import { collect, joined, soon } from '../engine/log-support.ts';
import { folder, Host, recorded, replay, tell, text, thinking, toolStart, whole } from './translate-support.ts';

test('an answer is its thinking and its text, each whole', async () => {
  const { events, seen, translator } = await replay('answer');
  assert.deepEqual(events, [thinking('They greet me.'), text(whole)]);
  assert.deepEqual(seen, { content: whole, thinking: 'They greet me.' });
  assert.equal(translator.model, 'sallyport-simulator');
});

test('tools end with their outcome, and are seen after the text before them', async () => {
  const { events, bodies, toolUses } = await replay('tools');
  // Tools of one message run at once and end in any order.
  const [before, ...ends] = events as { tool_use_id: string }[];
  const after = ends.pop();
  assert.deepEqual(
    [before, ...ends.toSorted((a, b) => a.tool_use_id.localeCompare(b.tool_use_id)), after],
    [
      text('I look.'),
      { type: 'tool_end', tool_use_id: 'toolu_1', ok: true, summary: '1\tone line\n2\t' },
      {
        type: 'tool_end',
        tool_use_id: 'toolu_2',
        ok: false,
        summary: 'File does not exist. Note: your current working directory is /workspace.',
      },
      text('There is one file.'),
    ],
  );
  assert.deepEqual(
    toolUses.map(({ id }) => id),
    ['toolu_1', 'toolu_2'],
  );
  const [message] = bodies;
  assert.ok(message?.type === 'text');
  assert.equal(toolUses[0]?.messageId, message.message_id);
});

test('a denied tool has no end', async () => {
  assert.deepEqual((await replay('tool-denied', ['toolu_1'])).events, [text('I look.'), text('I may not.')]);
});

test('wherever somebody else records an event, the answer is the same', async () => {
  for (const file of readdirSync(folder)) {
    const messages = recorded(file.replace('.json', ''));
    const { seen, events } = await tell(messages);
    for (let at = 0; at <= messages.length; at++) {
      const host = new Host();
      await host.take(messages.slice(0, at));
      const recording = host.side.log.append(toolStart);
      await host.take(messages.slice(at));
      const told = await host.finish();
      await recording;
      assert.deepEqual(told.seen.content, seen.content, `${file} at ${at}`);
      assert.ok(told.events.length <= events.length + 1, 'nothing is told again without need');
    }
  }
});

test('whole blocks stay when only the end of their message is missing', async () => {
  assert.deepEqual((await replay('no-message-stop')).events, [text('All of it.'), text('Done.')]);
});

test('the text before a refusal and before the token limit stays, errors in words are no text', async () => {
  assert.deepEqual((await replay('refusal')).events, [text('I would'), text('No.')]);
  assert.deepEqual((await replay('max-tokens')).events, [text('One,'), text(' two.')]);
});

test('what is not known is ignored', async () => {
  assert.deepEqual((await replay('unknown-events')).events, [thinking('They greet me.'), text(whole)]);
});

test('an interrupted text is kept as far as it came', async () => {
  const { events, seen } = await replay('interrupted-in-text');
  const [event, ...more] = events as { type: string; text: string }[];
  assert.deepEqual(more, []);
  assert.equal(event?.text, seen.content);
  assert.ok('A very long answer. '.startsWith(event?.text ?? 'nothing'));
});

test('an interrupted tool ends badly', async () => {
  const [, end] = (await replay('interrupted-in-tool')).events as { type: string; ok: boolean }[];
  assert.equal(end?.type, 'tool_end');
  assert.equal(end?.ok, false);
});

test('a run that dies anywhere leaves every delta in a durable event or withdrawn', async () => {
  for (const file of readdirSync(folder)) {
    const messages = recorded(file.replace('.json', ''));
    for (let end = 0; end <= messages.length; end++) {
      const host = new Host();
      await host.take(messages.slice(0, end));
      await soon();
      const live = joined(await collect(host.side.read(startOfLog, false)));
      const { seen } = await host.finish();
      // What was cut beside a call and withdrawn is told again when nothing follows.
      const again = { ...live, content: `${live.content}While I wait, th` };
      const expected = file === 'cut-beside-tool.json' && seen.content === again.content ? again : live;
      assert.deepEqual(seen, expected, `${file} up to ${end}`);
    }
  }
});

test('without partial messages the texts are the same', async () => {
  for (const name of ['answer', 'tools', 'max-tokens']) {
    const messages = recorded(name).filter((message) => message.type !== 'stream_event');
    assert.deepEqual((await tell(messages)).events, (await replay(name)).events);
  }
});

test('a block that differs from what was streamed replaces it, and the one before it stays', async () => {
  const messages = recorded('answer').map((message) =>
    message.type === 'assistant'
      ? (JSON.parse(JSON.stringify(message).replace(whole, 'Good day.')) as SDKMessage)
      : message,
  );
  const { seen } = await tell(messages);
  assert.deepEqual(seen, { content: 'Good day.', thinking: 'They greet me.' });
});

test('a message that replaces an earlier one withdraws it', async () => {
  const messages = recorded('max-tokens');
  const uuids = messages.filter((message) => message.type === 'assistant').map(({ uuid }) => uuid);
  const replacing = messages.map((message) =>
    message.type === 'assistant' && message.uuid === uuids[1] ? { ...message, supersedes: [uuids[0]] } : message,
  );
  assert.equal((await tell(replacing)).seen.content, ' two.');
});

test('a subagent says nothing', async () => {
  const messages = recorded('answer').map((message) => ({ ...message, parent_tool_use_id: 'toolu_9' }));
  const { events, seen } = await tell(messages);
  assert.deepEqual([events, seen], [[], { content: '', thinking: '' }]);
});

test('missing and senseless fields do no harm', async () => {
  const kinds = ['assistant', 'user', 'stream_event', 'system', 'result', 'nonsense'];
  const values: unknown[] = [undefined, null, 1, 'text', [], [null], {}, { content: null }, { content: [null, 1, {}] }];
  for (const type of kinds) {
    for (const value of values) {
      await tell([{ type, message: value, event: value, subtype: 'api_retry', attempt: value, supersedes: value }]);
    }
  }
  for (const event of ['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop']) {
    for (const value of values) {
      const given = { type: event, message: value, content_block: value, delta: value };
      await tell([{ type: 'stream_event', event: given }]);
    }
  }
});

test('the outcome of a tool is at most 500 characters and well formed', async () => {
  const content = [{ type: 'text', text: '😀'.repeat(400) }, { type: 'image' }];
  const outcome = { type: 'user', message: { content: [{ type: 'tool_result', tool_use_id: 'x', content }] } };
  const [event] = (await tell([outcome])).events as { summary: string }[];
  assert.ok(event !== undefined && event.summary.length <= 500 && event.summary.isWellFormed());
});
