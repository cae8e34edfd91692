import type { Brain, BrainContext, MessagesRequest, Step } from '@sallyport/simulator';
import { wordsIn } from '../bench/words.ts';

/** What the model is to do with a prompt. Paths are relative to the workspace. */
export type Task =
  | { readonly do: 'say' }
  /** Says so much that whoever waits for the end has to wait long. */
  | { readonly do: 'ramble' }
  | { readonly do: 'read'; readonly path: string }
  | { readonly do: 'edit'; readonly path: string; readonly from: string; readonly to: string };

const mark = 'The task is ';

/** A prompt with a word of its own. */
export function promptFor(word: string, task: Task = { do: 'say' }): string {
  return `My word is ${word}. ${mark}${JSON.stringify(task)}`;
}

/** The answer to `say`: all words of the user's messages, in their order. */
export function saying(words: readonly string[]): string {
  return `You said ${words.join(', ')}. ${'That is all that I know of it, and nothing else was ever said. '.repeat(4)}`.trim();
}

/** The answer to `read`, with the words of the file. */
export const reading = (words: readonly string[]): string => `The file holds ${words.join(', ')}.`;
/** The answer to `edit`. */
export const editing = (done: boolean): string => (done ? 'The file is changed.' : 'The file stays as it is.');

const rambling = 'On and on I go about nothing at all, and nobody has to hear it to its end. '.repeat(40);
const ramblingRate = 15;

/** The texts that the user wrote, without the results of tools. */
function said({ messages }: MessagesRequest): string[] {
  return messages
    .filter(({ role }) => role === 'user')
    .flatMap(({ content }) => (typeof content === 'string' ? [content] : content.map(({ text }) => text ?? '')))
    .filter((text) => text.includes(mark));
}

/** The result of the last tool call, and whether it failed. */
function lastResult({ messages }: MessagesRequest): { readonly text: string; readonly failed: boolean } {
  const blocks = messages.flatMap(({ content }) => (typeof content === 'string' ? [] : content));
  const result = blocks.findLast(({ type }) => type === 'tool_result');
  const content = result?.content ?? '';
  const text = typeof content === 'string' ? content : content.map((block) => block.text ?? '').join('\n');
  return { text, failed: result?.is_error === true };
}

/** The workspace as Claude Code tells the model of it. */
function workspaceOf({ system, messages }: MessagesRequest): string {
  const told = [system ?? '', ...messages.filter(({ role }) => role === 'system').map(({ content }) => content)];
  const texts = told.flatMap((each) => (typeof each === 'string' ? [each] : each.map(({ text }) => text ?? '')));
  return /^ *- Primary working directory: (.+)$/mu.exec(texts.join('\n'))?.[1]?.trim() ?? '/workspace';
}

/** The model of the soak: what it answers can be given only by a run that sent it the right words and files. */
export const soakBrain: Brain = (request: MessagesRequest, { call }: BrainContext): Step => {
  const texts = said(request);
  const last = texts.at(-1) ?? '';
  const task = JSON.parse(last.slice(last.lastIndexOf(mark) + mark.length) || '{"do":"say"}') as Task;
  if (task.do === 'say') return { text: saying(wordsIn(texts.join('\n'))) };
  if (task.do === 'ramble') return { text: rambling, rate: ramblingRate };
  const file_path = `${workspaceOf(request)}/${task.path}`;
  if (call === 0) return { tools: [{ name: 'Read', input: { file_path } }] };
  const { text, failed } = lastResult(request);
  if (task.do === 'read') return { text: failed ? `There is no such file: ${text}` : reading(wordsIn(text)) };
  if (call > 1) return { text: editing(!failed) };
  return { tools: [{ name: 'Edit', input: { file_path, old_string: task.from, new_string: task.to } }] };
};
