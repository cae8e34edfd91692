import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import { startOfLog, StreamProjector, type LogEventBody } from '@sallyport/protocol';
import { Translator } from './translate.ts';

const folder = join(import.meta.dirname, 'testdata');

/** Messages of a real run, as test/sdk/record-messages.ts recorded them. */
function recorded(name: string): SDKMessage[] {
  return JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as SDKMessage[];
}

/** A translation as its host sees it. */
class Host {
  readonly steps: ({ delta: string; block: string } | LogEventBody)[] = [];
  readonly toolUses: { id: string; messageId: string }[] = [];
  readonly translator: Translator;

  constructor(denied: readonly string[] = []) {
    this.translator = new Translator(
      {
        delta: (block, delta) => this.steps.push({ block, delta }),
        record: (event) => this.steps.push(event),
        toolUse: (id, messageId) => this.toolUses.push({ id, messageId }),
      },
      (id) => !denied.includes(id),
    );
  }

  take(messages: readonly unknown[]): this {
    for (const message of messages) this.translator.take(message as SDKMessage);
    return this;
  }

  /** Somebody else records an event, as the engine does when a tool starts. */
  log(event: LogEventBody): this {
    this.steps.push(event);
    this.translator.noted();
    return this;
  }

  finish(): this {
    this.translator.finish();
    return this;
  }

  /** The durable events, without ids of messages. */
  get events(): unknown[] {
    return this.steps
      .filter((step) => 'type' in step)
      .map((event) => ('message_id' in event ? { ...event, message_id: undefined } : event))
      .map((event) => JSON.parse(JSON.stringify(event)) as unknown);
  }

  /** What a client that follows live has at the end, as the wire tells it to join: texts of assistant events, by kind. */
  seen(): { content: string; thinking: string } {
    const projector = new StreamProjector(startOfLog);
    const kept = { content: '', thinking: '' };
    let since = { content: '', thinking: '' };
    let seq = 0;
    let offset = 0;
    for (const step of this.steps) {
      if (!('type' in step)) {
        const block = step.block as 'text' | 'thinking';
        const item = projector.delta({ block, offset, text: step.delta });
        offset += step.delta.length;
        if (item?.event.type === 'text_delta') since.content += item.event.content;
        if (item?.event.type === 'thinking_delta') since.thinking += item.event.thinking;
        continue;
      }
      if (['text', 'thinking', 'restart', 'result'].includes(step.type)) offset = 0;
      seq += 1;
      const item = projector.log({ seq, turn: 't', at: 0, body: step });
      if (item === null) continue;
      const { event } = item;
      if (event.type === 'text_delta') since.content += event.content;
      else if (event.type === 'thinking_delta') since.thinking += event.thinking;
      else {
        if (event.type !== 'restart') {
          kept.content += since.content;
          kept.thinking += since.thinking;
        }
        since = { content: '', thinking: '' };
      }
    }
    return { content: kept.content + since.content, thinking: kept.thinking + since.thinking };
  }
}

const replay = (name: string, denied: readonly string[] = []) => new Host(denied).take(recorded(name)).finish();

const text = (words: string) => ({ type: 'text', text: words });
const thinking = (words: string) => ({ type: 'thinking', thinking: words });
const restart = { type: 'restart' };
const retry = { type: 'retry', attempt: 1, reason: 'upstream_error' };
const whole = 'Hello there, how are you today?';

test('an answer is its thinking and its text, each whole', () => {
  const host = replay('answer');
  assert.deepEqual(host.events, [thinking('They greet me.'), text(whole)]);
  assert.deepEqual(host.seen(), { content: whole, thinking: 'They greet me.' });
  assert.equal(host.translator.model, 'sallyport-simulator');
});

test('tools end with their outcome, and are seen after the text before them', () => {
  const host = replay('tools');
  // Tools of one message run at once and end in any order.
  const [before, ...ends] = host.events as { tool_use_id: string }[];
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
    host.toolUses.map(({ id }) => id),
    ['toolu_1', 'toolu_2'],
  );
  const message = host.steps.find((step) => 'type' in step && step.type === 'text');
  assert.ok(message && 'message_id' in message);
  assert.equal(host.toolUses[0]?.messageId, message.message_id);
});

test('a denied tool has no end', () => {
  assert.deepEqual(replay('tool-denied', ['toolu_1']).events, [text('I look.'), text('I may not.')]);
});

test('a cut block is withdrawn and told again', () => {
  const host = replay('cut-once');
  assert.deepEqual(host.events, [restart, retry, text(whole)]);
  assert.equal(host.seen().content, whole);
});

test('of a stream that stays cut, what came last is kept', () => {
  const host = replay('cut-for-good');
  assert.deepEqual(host.events, [restart, retry, text('Hello there, h')]);
  assert.equal(host.seen().content, 'Hello there, h');
});

test('a cut in the second block withdraws only that one', () => {
  const host = replay('cut-in-second-block');
  assert.deepEqual(host.events, [text('The first block.'), restart, text('The first block.'), text(' And the end.')]);
  assert.equal(host.seen().content, 'The first block. And the end.');
});

test('thinking alone is forgotten with the cut text after it', () => {
  const host = replay('cut-after-thinking');
  assert.deepEqual(host.events, [thinking('They greet me.'), restart, thinking('They greet me.'), text(whole)]);
  assert.deepEqual(host.seen(), { content: whole, thinking: 'They greet me.' });
});

test('a cut block beside a tool is withdrawn up to the tool, which stays', () => {
  const host = replay('cut-beside-tool');
  assert.deepEqual(host.events, [
    text('I look.'),
    { type: 'tool_end', tool_use_id: 'toolu_1', ok: true, summary: '1\tone line\n2\t' },
    restart,
    text('There is one file.'),
  ]);
  assert.equal(host.seen().content, 'I look.There is one file.');
});

test('a cut block with another event in its middle cannot be withdrawn and is kept', () => {
  const messages = recorded('cut-beside-tool');
  const half = messages.findIndex((message) => JSON.stringify(message).includes('I wait'));
  const start = { type: 'tool_start', tool_use_id: 'x', message_id: null, name: 'Read', input: {}, decided_by: 'test' };
  const host = new Host()
    .take(messages.slice(0, half))
    .log(start as LogEventBody)
    .take(messages.slice(half))
    .finish();
  assert.ok(!host.events.some((event) => JSON.stringify(event) === JSON.stringify(restart)));
  assert.equal(host.seen().content, 'I look.While I wait, thThere is one file.');
});

test('whole blocks stay when only the end of their message is missing', () => {
  const host = replay('no-message-stop');
  assert.deepEqual(host.events, [text('All of it.'), text('Done.')]);
});

test('the text before a refusal and before the token limit stays, errors in words are no text', () => {
  assert.deepEqual(replay('refusal').events, [text('I would'), text('No.')]);
  assert.deepEqual(replay('max-tokens').events, [text('One,'), text(' two.')]);
});

test('what is not known is ignored', () => {
  const host = replay('unknown-events');
  assert.deepEqual(host.events, [thinking('They greet me.'), text(whole)]);
});

test('an interrupted text is kept as far as it came', () => {
  const host = replay('interrupted-in-text');
  const [event, ...more] = host.events as { type: string; text: string }[];
  assert.deepEqual(more, []);
  assert.equal(event?.text, host.seen().content);
  assert.ok('A very long answer. '.startsWith(event?.text ?? 'nothing'));
});

test('an interrupted tool ends badly', () => {
  const [, end] = replay('interrupted-in-tool').events as { type: string; ok: boolean }[];
  assert.equal(end?.type, 'tool_end');
  assert.equal(end?.ok, false);
});

test('a run that dies anywhere leaves every delta in a durable event or withdrawn', () => {
  for (const file of readdirSync(folder)) {
    const messages = recorded(file.replace('.json', ''));
    for (let end = 0; end <= messages.length; end++) {
      const host = new Host().take(messages.slice(0, end));
      const live = host.seen();
      host.finish();
      assert.deepEqual(host.seen(), live, `${file} up to ${end}`);
      const replayed = new Host();
      replayed.steps.push(...host.steps.filter((step) => 'type' in step));
      assert.deepEqual(replayed.seen(), live, `${file} up to ${end}, without deltas`);
    }
  }
});

test('without partial messages the texts are the same', () => {
  for (const name of ['answer', 'tools', 'max-tokens']) {
    const host = new Host().take(recorded(name).filter((message) => message.type !== 'stream_event')).finish();
    assert.deepEqual(host.events, replay(name).events);
  }
});

test('a block that differs from what was streamed replaces it', () => {
  const messages = recorded('answer').map((message) =>
    message.type === 'assistant'
      ? (JSON.parse(JSON.stringify(message).replace(whole, 'Good day.')) as SDKMessage)
      : message,
  );
  assert.equal(new Host().take(messages).finish().seen().content, 'Good day.');
});

test('a message that replaces an earlier one withdraws it', () => {
  const messages = recorded('max-tokens');
  const uuids = messages.filter((message) => message.type === 'assistant').map(({ uuid }) => uuid);
  const replacing = messages.map((message) =>
    message.type === 'assistant' && message.uuid === uuids[1] ? { ...message, supersedes: [uuids[0]] } : message,
  );
  assert.equal(new Host().take(replacing).finish().seen().content, ' two.');
});

test('a subagent says nothing', () => {
  const messages = recorded('answer').map((message) => ({ ...message, parent_tool_use_id: 'toolu_9' }));
  assert.deepEqual(new Host().take(messages).finish().steps, []);
});

test('missing and senseless fields do no harm', () => {
  const kinds = ['assistant', 'user', 'stream_event', 'system', 'result', 'nonsense'];
  const values: unknown[] = [undefined, null, 1, 'text', [], [null], {}, { content: null }, { content: [null, 1, {}] }];
  for (const type of kinds) {
    for (const value of values) {
      new Host()
        .take([{ type, message: value, event: value, subtype: 'api_retry', attempt: value, supersedes: value }])
        .finish();
    }
  }
  for (const event of ['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop']) {
    for (const value of values) {
      new Host()
        .take([{ type: 'stream_event', event: { type: event, message: value, content_block: value, delta: value } }])
        .finish();
    }
  }
});

test('the outcome of a tool is at most 500 characters and well formed', () => {
  const content = [{ type: 'text', text: '😀'.repeat(400) }, { type: 'image' }];
  const [event] = new Host().take([
    { type: 'user', message: { content: [{ type: 'tool_result', tool_use_id: 'x', content }] } },
  ]).events as { summary: string }[];
  assert.ok(event !== undefined && event.summary.length <= 500 && event.summary.isWellFormed());
});
