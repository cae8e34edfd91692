import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import { startOfLog, type LogEventBody } from '@sallyport/protocol';
import { collect, joined, MemoryLog, Side, soon } from '../engine/log-support.ts';
import { anEnd } from '../testing/turns.ts';
import { Translator } from './translate.ts';

const folder = join(import.meta.dirname, 'testdata');

/** Messages of a real run, as test/sdk/record-messages.ts recorded them. */
function recorded(name: string): SDKMessage[] {
  return JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as SDKMessage[];
}

/** A translation with the log that its host writes, and a client that follows from the start. */
class Host {
  readonly store = new MemoryLog();
  readonly side = new Side(this.store);
  readonly toolUses: { id: string; messageId: string }[] = [];
  readonly translator: Translator;
  readonly #following = collect(this.side.read());

  constructor(denied: readonly string[] = []) {
    const { log } = this.side;
    this.translator = new Translator(
      {
        delta: (block, text) => log.delta(block, text),
        record: (event) => void log.append(event),
        toolUse: (id, messageId) => this.toolUses.push({ id, messageId }),
      },
      (id) => !denied.includes(id),
    );
  }

  async take(messages: readonly unknown[]): Promise<void> {
    for (const message of messages) {
      this.translator.take(message as SDKMessage);
      await Promise.resolve();
    }
  }

  /** The end of the turn. */
  async finish(): Promise<Told> {
    this.translator.finish();
    await this.side.log.finish(anEnd);
    const events = this.store.events.slice(0, -1).map(({ body }) => body);
    const seen = joined(await this.#following);
    assert.deepEqual(joined(await collect(this.side.read())), seen, 'the log alone tells the same');
    const nameless = events.map((event) => JSON.parse(JSON.stringify({ ...event, message_id: undefined })) as unknown);
    const { toolUses, translator } = this;
    return { bodies: events, events: nameless, seen, toolUses, translator };
  }
}

/** What was told in the end. */
interface Told {
  readonly bodies: readonly LogEventBody[];
  /** Without ids of messages. */
  readonly events: readonly unknown[];
  /** What a client has joined. */
  readonly seen: { content: string; thinking: string };
  readonly toolUses: Host['toolUses'];
  readonly translator: Translator;
}

async function tell(messages: readonly unknown[], denied: readonly string[] = []): Promise<Told> {
  const host = new Host(denied);
  await host.take(messages);
  return await host.finish();
}

const replay = (name: string, denied: readonly string[] = []) => tell(recorded(name), denied);

const text = (words: string) => ({ type: 'text', text: words });
const thinking = (words: string) => ({ type: 'thinking', thinking: words });
const restart = { type: 'restart' };
const retry = { type: 'retry', attempt: 1, reason: 'upstream_error' };
const whole = 'Hello there, how are you today?';

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

test('wherever somebody else records an event, the answer is the same', async () => {
  const start = { type: 'tool_start', tool_use_id: 'x', message_id: null, name: 'Read', input: {}, decided_by: 'test' };
  for (const file of readdirSync(folder)) {
    const messages = recorded(file.replace('.json', ''));
    const { seen, events } = await tell(messages);
    for (let at = 0; at <= messages.length; at++) {
      const host = new Host();
      await host.take(messages.slice(0, at));
      const recording = host.side.log.append(start as LogEventBody);
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
      assert.deepEqual(seen, live, `${file} up to ${end}`);
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
