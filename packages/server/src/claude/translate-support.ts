import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import type { LogEventBody } from '@sallyport/protocol';
import { collect, joined, MemoryLog, Side } from '../engine/log-support.ts';
import { anEnd } from '../testing/turns.ts';
import { Translator } from './translate.ts';

/** Where the recorded messages are. */
export const folder = join(import.meta.dirname, 'testdata');

/** Messages of a real run, as test/sdk/record-messages.ts recorded them. */
export function recorded(name: string): SDKMessage[] {
  return JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as SDKMessage[];
}

/** A translation with the log that its host writes, and a client that follows from the start. */
export class Host {
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
export interface Told {
  readonly bodies: readonly LogEventBody[];
  /** Without ids of messages. */
  readonly events: readonly unknown[];
  /** What a client has joined. */
  readonly seen: { content: string; thinking: string };
  readonly toolUses: Host['toolUses'];
  readonly translator: Translator;
}

export async function tell(messages: readonly unknown[], denied: readonly string[] = []): Promise<Told> {
  const host = new Host(denied);
  await host.take(messages);
  return await host.finish();
}

export const replay = (name: string, denied: readonly string[] = []) => tell(recorded(name), denied);

export const text = (words: string) => ({ type: 'text', text: words });
export const thinking = (words: string) => ({ type: 'thinking', thinking: words });
export const restart = { type: 'restart' };
export const whole = 'Hello there, how are you today?';

export const toolStart: Extract<LogEventBody, { type: 'tool_start' }> = {
  type: 'tool_start',
  tool_use_id: 'x',
  message_id: null,
  name: 'Read',
  input: {},
  decided_by: 'rule',
};
