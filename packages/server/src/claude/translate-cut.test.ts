import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import { Host, recorded, replay, restart, tell, text, thinking, toolStart, whole } from './translate-support.ts';

const retry = { type: 'retry', attempt: 1, reason: 'upstream_error' };

test('a cut block is withdrawn and told again', async () => {
  const { events, seen } = await replay('cut-once');
  assert.deepEqual(events, [restart, retry, text(whole)]);
  assert.equal(seen.content, whole);
});

test('of a stream that stays cut, what came last is kept', async () => {
  const { events, seen } = await replay('cut-for-good');
  assert.deepEqual(events, [restart, retry, text('Hello there, h')]);
  assert.equal(seen.content, 'Hello there, h');
});

test('a cut in the second block withdraws only that one', async () => {
  const { events, seen } = await replay('cut-in-second-block');
  assert.deepEqual(events, [text('The first block.'), restart, text('The first block.'), text(' And the end.')]);
  assert.equal(seen.content, 'The first block. And the end.');
});

test('thinking alone is forgotten with the cut text after it', async () => {
  const { events, seen } = await replay('cut-after-thinking');
  assert.deepEqual(events, [thinking('They greet me.'), restart, thinking('They greet me.'), text(whole)]);
  assert.deepEqual(seen, { content: whole, thinking: 'They greet me.' });
});

test('thinking alone is forgotten with a cut before the text after it', async () => {
  const messages = recorded('cut-after-thinking');
  const types = messages.map((message) => (message.type === 'stream_event' ? message.event.type : null));
  const begin = types.indexOf('content_block_start', types.indexOf('content_block_stop'));
  const end = types.indexOf('message_stop');
  for (const from of [begin, begin + 1]) {
    const { events, seen } = await tell(messages.toSpliced(from, end - from));
    assert.deepEqual(events, [thinking('They greet me.'), restart, thinking('They greet me.'), text(whole)]);
    assert.deepEqual(seen, { content: whole, thinking: 'They greet me.' });
  }
});

test('thinking alone stays when its message was not cut', async () => {
  const messages = recorded('cut-after-thinking');
  const types = messages.map((message) => (message.type === 'stream_event' ? message.event.type : null));
  const begin = types.indexOf('content_block_start', types.indexOf('content_block_stop'));
  const end = messages.find((message) => message.type === 'stream_event' && message.event.type === 'message_delta');
  const { events } = await tell(messages.toSpliced(begin, types.indexOf('message_stop') - begin, end!));
  assert.deepEqual(events, [thinking('They greet me.'), thinking('They greet me.'), text(whole)]);
});

test('thinking before a call is kept when the text after the call is cut', async () => {
  const says = (id: string, block: object) => ({ type: 'assistant', message: { id, model: 'm', content: [block] } });
  const streams = (event: object) => ({ type: 'stream_event', event });
  const outcome = { type: 'tool_result', tool_use_id: 'x', content: 'found' };
  const { events, seen } = await tell([
    streams({ type: 'message_start', message: { id: 'first' } }),
    says('first', thinking('I must look.')),
    says('first', { type: 'tool_use', id: 'x' }),
    streams({ type: 'content_block_delta', delta: { type: 'text_delta', text: 'While I' } }),
    { type: 'user', message: { content: [outcome] } },
    streams({ type: 'message_start', message: { id: 'second' } }),
    says('second', text('There it is.')),
  ]);
  const end = { type: 'tool_end', tool_use_id: 'x', ok: true, summary: 'found' };
  const thought = thinking('I must look.');
  assert.deepEqual(events, [thought, restart, thought, end, text('There it is.')]);
  assert.deepEqual(seen, { content: 'There it is.', thinking: 'I must look.' });
});

const toolEnd = { type: 'tool_end', tool_use_id: 'toolu_1', ok: true, summary: '1\tone line\n2\t' };

test('a cut block beside a tool is withdrawn whole, and the tool stays', async () => {
  const { events, seen } = await replay('cut-beside-tool');
  assert.deepEqual(events, [text('I look.'), toolEnd, restart, text('There is one file.')]);
  assert.equal(seen.content, 'I look.There is one file.');
});

/** What Claude Code says when the text beside a call was cut: first up to that, then from the call's outcome on. */
function cutBesideCall(): [SDKMessage[], SDKMessage[]] {
  const messages = recorded('cut-beside-tool');
  const outcome = messages.filter(({ type }) => type === 'user');
  const others = messages.filter(({ type }) => type !== 'user');
  const cut = others.findIndex((message) => message.type === 'stream_event' && message.event.type === 'message_stop');
  return [others.slice(0, cut + 1), [...outcome, ...others.slice(cut + 1)]];
}

test('a call that comes while the text beside it is open starts when that is cut, before Claude Code goes on', async () => {
  const [before, after] = cutBesideCall();
  const host = new Host();
  await host.take(before.slice(0, -2));
  const starting = host.side.log.append(toolStart);
  await host.take(before.slice(-2));
  await starting;
  await host.take(after);
  const { events, seen } = await host.finish();
  const look = text('I look.');
  const { message_id: _, ...started } = toolStart;
  assert.deepEqual(events, [look, restart, look, started, toolEnd, text('There is one file.')]);
  assert.equal(seen.content, 'I look.There is one file.');
});

test('a text that was cut beside a call is kept as far as it came when Claude Code does not go on', async () => {
  const [before, [outcome]] = cutBesideCall();
  const { events, seen } = await tell([...before, outcome]);
  const look = text('I look.');
  assert.deepEqual(events, [look, restart, look, toolEnd, text('While I wait, th')]);
  assert.equal(seen.content, 'I look.While I wait, th');
});

test('a text that was cut beside a call is gone when Claude Code goes on without partial messages', async () => {
  const [before, after] = cutBesideCall();
  const { seen } = await tell([...before, ...after.filter(({ type }) => type !== 'stream_event')]);
  assert.equal(seen.content, 'I look.There is one file.');
});
