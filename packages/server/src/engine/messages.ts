import type { ClaudeMessage, LogEvent } from '@sallyport/protocol';
import { isoTime } from './clock.ts';

/** Builds the history from a log, one event after the other. */
class History {
  readonly messages: ClaudeMessage[] = [];
  /** The answer that is being put together, and the model's id of it. */
  #open: { readonly id: string | null; readonly message: ClaudeMessage } | null = null;
  /** How many messages there were at the last event that was not text, and what the last one held: what a `restart` goes back to. */
  #mark = { count: 0, content: '' };

  user(content: string, at: number): void {
    this.#open = null;
    this.messages.push({ content, role: 'user', timestamp: isoTime(at), tools_used: [], error: null });
  }

  /** The answer with this id of the model; the open one where the id is not known. */
  answer(id: string | null, at: number): ClaudeMessage {
    if (this.#open && (id === null || this.#open.id === id)) return this.#open.message;
    const message: ClaudeMessage = {
      content: '',
      role: 'assistant',
      timestamp: isoTime(at),
      tools_used: [],
      error: null,
    };
    this.#open = { id, message };
    this.messages.push(message);
    return message;
  }

  mark(): void {
    this.#mark = { count: this.messages.length, content: this.messages.at(-1)?.content ?? '' };
  }

  withdraw(): void {
    this.messages.length = this.#mark.count;
    const last = this.messages.at(-1);
    if (last) last.content = this.#mark.content;
    this.#open = null;
  }
}

/** The history that a log tells: the user's messages and one message per answer of the model, its text joined. */
export function messagesOf(log: readonly LogEvent[]): ClaudeMessage[] {
  const history = new History();
  const denied = new Set(log.flatMap(({ body }) => (body.type === 'tool_denied' ? [body.tool_use_id] : [])));
  for (const { at, body } of log) {
    switch (body.type) {
      case 'text':
        history.answer(body.message_id, at).content += body.text;
        continue;
      case 'thinking':
        continue;
      case 'user_message':
        history.user(body.text, at);
        break;
      case 'tool_start': {
        const { tools_used } = history.answer(body.message_id, at);
        if (!tools_used.includes(body.name) && !denied.has(body.tool_use_id)) tools_used.push(body.name);
        break;
      }
      case 'restart':
        history.withdraw();
        break;
      case 'result':
        if (body.result.error !== null) history.answer(null, at).error = body.result.error;
        break;
      case 'tool_end':
      case 'tool_denied':
      case 'retry':
        break;
    }
    history.mark();
  }
  return history.messages;
}
