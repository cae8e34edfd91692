import type { Brain, BrainContext, MessagesRequest, Step } from '@sallyport/simulator';
import { wordsIn } from './history.ts';

/** What the model is to do with a prompt. */
export type Task =
  | { do: 'say' }
  /** Says it so slowly that something may happen meanwhile. */
  | { do: 'ramble' }
  /** Runs one command, which leaves the word and the moment in a file of the project. */
  | { do: 'run' }
  | { do: 'read'; path: string }
  /** Runs this command. */
  | { do: 'command'; command: string };

const mark = 'The task is ';

/** A prompt with a word of its own. */
export const promptFor = (word: string, task: Task): string => `My word is ${word}. ${mark}${JSON.stringify(task)}`;

const filler = 'That is all that I know of it, and nothing else was ever said. ';

/** The file of a project in which commands leave their marks. */
export const marksFile = 'marks.txt';

/** The texts that the user wrote, without the results of tools. */
export function saidIn({ messages }: MessagesRequest): string[] {
  return messages
    .filter(({ role }) => role === 'user')
    .flatMap(({ content }) => (typeof content === 'string' ? [content] : content.map(({ text }) => text ?? '')))
    .filter((text) => text.includes(mark));
}

/** What goes wrong with a call of the model: parts of a step, or nothing. */
export type Disturb = (request: MessagesRequest, context: BrainContext) => Partial<Step> | null;

/**
 * The model of the faults. Its answers name all words that the user has ever said in the conversation, so they can be
 * right only where the whole past was sent.
 */
export function brainWith(disturb: Disturb): Brain {
  return (request, context) => ({ ...stepFor(request, context), ...disturb(request, context) });
}

function stepFor(request: MessagesRequest, { call }: BrainContext): Step {
  const texts = saidIn(request);
  const last = texts.at(-1) ?? '';
  const word = wordsIn(last).at(-1) ?? '';
  const said = `You said ${wordsIn(texts.join('\n')).join(', ')}. ${filler}`;
  const task = taskIn(last);
  if (call > 0 || task.do === 'say') return { text: said };
  if (task.do === 'ramble') return { text: said + filler.repeat(6), rate: 60 };
  if (task.do === 'read') return { tools: [{ name: 'Read', input: { file_path: `/workspace/${task.path}` } }] };
  const command = task.do === 'command' ? task.command : `echo "${word} $(date +%s%N)" >> ${marksFile}`;
  return { text: 'I run it. ', rate: 40, tools: [{ name: 'Bash', input: { command } }] };
}

/** The task of a prompt; where there is none, to say something. */
function taskIn(text: string): Task {
  const json = /The task is (\{.*?\})(?:$|\s)/mu.exec(text)?.[1];
  return json === undefined ? { do: 'say' } : (JSON.parse(json) as Task);
}
