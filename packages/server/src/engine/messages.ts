import type { ClaudeMessage, LogEvent } from '@sallyport/protocol';
import { isoTime } from './clock.ts';

/** A message that begins with an event, and is named after its place in the log. */
const blank = ({ seq, at }: LogEvent) => ({
  id: String(seq),
  content: '',
  timestamp: isoTime(at),
  tools_used: [] as string[],
  error: null,
});

/** Builds the history from a log, one event after the other. */
class History {
  readonly messages: ClaudeMessage[] = [];
  /** The answer that is being put together, and the model's id of it. */
  #open: { readonly id: string | null; readonly message: ClaudeMessage } | null = null;
  /** How many messages there were at the last event that was not text, and what the last one held: what a `restart` goes back to. */
  #mark = { count: 0, content: '' };

  user(content: string, event: LogEvent): void {
    this.#open = null;
    this.messages.push({ ...blank(event), role: 'user', content });
  }

  /** The answer with this id of the model; the open one where the id is not known. */
  answer(id: string | null, event: LogEvent): ClaudeMessage {
    if (this.#open && (id === null || this.#open.id === id)) return this.#open.message;
    const message: ClaudeMessage = { ...blank(event), role: 'assistant' };
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
  for (const event of log) {
    const { body } = event;
    switch (body.type) {
      case 'text':
        history.answer(body.message_id, event).content += body.text;
        continue;
      case 'thinking':
        continue;
      case 'user_message':
        history.user(body.text, event);
        break;
      case 'tool_start': {
        const { tools_used } = history.answer(body.message_id, event);
        if (!tools_used.includes(body.name) && !denied.has(body.tool_use_id)) tools_used.push(body.name);
        break;
      }
      case 'restart':
        history.withdraw();
        break;
      case 'result':
        if (body.result.error !== null) history.answer(null, event).error = body.result.error;
        break;
      case 'tool_end':
      case 'tool_denied':
      case 'approval_requested':
      case 'approval_decided':
      case 'retry':
        break;
    }
    history.mark();
  }
  return history.messages;
}
