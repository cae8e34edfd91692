import { createHash } from 'node:crypto';
import type { Block, Message, MessagesRequest } from './types.ts';

/** A tool call of the running turn; `result` is null while there is none. */
export interface ToolCall {
  name: string;
  input: unknown;
  result: { text: string; isError: boolean } | null;
}

/** What a request says about the turn that is running. */
export interface Turn {
  /** The newest text a user wrote; empty if there is none. */
  prompt: string;
  /** Model calls since that text. */
  call: number;
  /** Tool calls since that text, in the order they were made. */
  toolCalls: ToolCall[];
}

/** How the texts begin that Claude Code 2.1.329 puts into user messages by itself. */
const machineTexts = [
  '[Request interrupted',
  '[structured-output-enforce]',
  '[Your previous response ',
  "This session's worker process was restarted.",
  'Output token limit hit',
  'Your response above was ',
  'Your response was cut off because it exceeded the output token limit.',
  'Your tool call was malformed',
  'The previous response failed to produce a valid tool call.',
  'Stop hook feedback:',
];

/**
 * What Claude Code 2.1.329 says, as a block of its own beside the prompt or a tool result, when it goes on with a turn
 * after a crash. A user may begin with the same words.
 */
const resumeText = /^Continue from where you left off\.($| This session moved | Note: this session was )/;

/** The blocks of a message; a plain string is one text block. */
export function blocksOf(message: Message): Block[] {
  return typeof message.content === 'string' ? [{ type: 'text', text: message.content }] : message.content;
}

/** The part of a text block that a user wrote; empty for what Claude Code added. */
function authoredText(block: Block): string {
  if (block.type !== 'text') return '';
  const text = (block.text ?? '').replaceAll(/<system-reminder>[\s\S]*?<\/system-reminder>/g, '').trim();
  return resumeText.test(text) || machineTexts.some((start) => text.startsWith(start)) ? '' : text;
}

/** True for a message that begins a turn, as opposed to tool results and Claude Code's own notes. */
function isAuthored(message: Message): boolean {
  if (message.role !== 'user') return false;
  const blocks = blocksOf(message);
  if (blocks.some((block) => authoredText(block) !== '')) return true;
  // An image or document alone is a user's; beside a tool result it belongs to that result.
  return blocks.every((block) => block.type !== 'tool_result') && blocks.some((block) => block.type !== 'text');
}

/** The text of a tool result; images and the like are left out. */
function resultText(block: Block): string {
  if (typeof block.content === 'string') return block.content;
  return (block.content ?? []).map((part) => part.text ?? '').join('\n');
}

/** Reads the running turn out of a request. After a failed turn Claude Code merges the prompts; the last one counts. */
export function readTurn(request: MessagesRequest): Turn {
  const start = request.messages.findLastIndex(isAuthored);
  const first = request.messages[start];
  const texts = first ? blocksOf(first).map(authoredText) : [];
  const later = request.messages.slice(start + 1);
  const results = new Map<string, { text: string; isError: boolean }>();
  for (const block of later.flatMap(blocksOf)) {
    if (block.type !== 'tool_result' || block.tool_use_id === undefined) continue;
    results.set(block.tool_use_id, { text: resultText(block), isError: block.is_error === true });
  }
  const answers = later.filter((message) => message.role === 'assistant');
  return {
    prompt: texts.findLast((text) => text !== '') ?? '',
    call: answers.length,
    toolCalls: answers
      .flatMap(blocksOf)
      .filter((block) => block.type === 'tool_use')
      .map((block) => ({ name: block.name ?? '', input: block.input, result: results.get(block.id ?? '') ?? null })),
  };
}

/**
 * The same string for every attempt of the same step: a retry, the non-streaming fallback, and the repeated call of a
 * resumed turn, which differ in cache marks, white space and Claude Code's own notes.
 */
export function stepKey(request: MessagesRequest, session: string | null): string {
  const hash = createHash('sha256').update(session ?? '');
  for (const message of request.messages) {
    if (message.role === 'system') continue;
    const parts = blocksOf(message).map((block) => {
      if (block.type === 'text') return message.role === 'user' ? authoredText(block) : (block.text ?? '').trim();
      return [block.type, block.id, block.name, block.tool_use_id].join(' ').trim();
    });
    const kept = parts.filter((part) => part !== '');
    if (kept.length > 0) hash.update(JSON.stringify([message.role, kept]));
  }
  return hash.digest('hex');
}
