import type { Step } from '@sallyport/simulator';

/**
 * What the examples say, and what the simulated model is to do about it.
 *
 * Without an API key the service runs the real Claude Code on a simulated model. That model cannot think, so each prompt
 * carries the steps it is to play, in a `<<simulate [...]>>` mark: step k is its k-th answer of the turn. What the steps
 * call is real: Claude Code reads and edits the files, and the service asks for approval. A real model needs only the
 * words.
 */
export interface Line {
  readonly words: string;
  readonly steps: readonly Step[];
}

/** The text that is sent. */
export const promptOf = ({ words, steps }: Line): string => `${words} <<simulate ${JSON.stringify(steps)}>>`;

/** The answer that is to come, whatever happens meanwhile. A real model would say something else, of course. */
export const answerTo = ({ steps }: Line): string => steps.map(({ text = '' }) => text).join('');

const read = (path: string) => ({ name: 'Read', input: { file_path: path } });
const write = (path: string, content: string) => ({ name: 'Write', input: { file_path: path, content } });
const edit = (path: string, old: string, changed: string) => ({
  name: 'Edit',
  input: { file_path: path, old_string: old, new_string: changed },
});
/** A text that comes at the pace of a model: some 40 tokens of 4 characters each second. */
const spoken = (text: string): Step => ({ text, rate: 40 });

/** The five turns of `conversation.ts`. */
export const conversation = {
  read: {
    words: 'What does this project do? Read its sources.',
    steps: [
      { text: 'Let me look. ', tools: [read('src/greet.js')] },
      { tools: [read('src/main.js')] },
      spoken('It greets the name on its command line. Without a name it says "Hello undefined".'),
    ],
  },
  edit: {
    words: 'Greet the world when there is no name.',
    steps: [
      { text: 'A default will do. ', tools: [edit('src/greet.js', 'greet(name)', "greet(name = 'world')")] },
      spoken('Without a name it now greets the world.'),
    ],
  },
  killed: {
    words: 'And end the greeting with an exclamation mark.',
    steps: [
      { text: 'One more edit. ', tools: [edit('src/greet.js', "'Hello ' + name", "'Hello ' + name + '!'")] },
      spoken('Every greeting now ends with an exclamation mark.'),
    ],
  },
  denied: {
    words: 'Document the default.',
    steps: [
      { text: 'I will add a page. ', tools: [write('DEFAULTS.md', '# Defaults\n\nThe name is "world".\n')] },
      { text: 'Then into the README. ', tools: [read('README.md')] },
      { tools: [edit('README.md', 'Says hello.', 'Says hello, to the wrold if you give no name.')] },
      spoken('The README tells of the default.'),
    ],
  },
  last: {
    words: 'Are we done?',
    steps: [{ tools: [read('README.md')] }, spoken('Yes: the default, the exclamation mark and the README.')],
  },
} as const satisfies Readonly<Record<string, Line>>;

/** The three turns of `socket.ts`. */
export const overSocket = {
  read: {
    words: 'What does greet() return?',
    steps: [{ text: 'Let me look. ', tools: [read('src/greet.js')] }, spoken('"Hello " and the name.')],
  },
  edit: {
    words: 'Make it say "Welcome".',
    steps: [{ tools: [edit('src/greet.js', "'Hello '", "'Welcome '")] }, spoken('It says "Welcome" from now on.')],
  },
  dropped: {
    words: 'Explain at length why a greeting matters.',
    steps: [
      spoken(Array.from({ length: 12 }, (_, index) => `Reason ${index + 1}: people like to be greeted. `).join('')),
    ],
  },
} as const satisfies Readonly<Record<string, Line>>;

/** The three turns of `cluster/run.ts`. */
export const clustered = {
  edit: {
    words: 'We go to Rome instead. Correct my notes.',
    steps: [
      { text: 'I will. ', tools: [read('notes.md')] },
      { tools: [edit('notes.md', 'Paris', 'Rome')] },
      spoken('Your notes say Rome now.'),
    ],
  },
  killed: {
    words: 'Tell me at length what to see there.',
    steps: [
      spoken(
        Array.from({ length: 10 }, (_, index) => `Day ${index + 1}: one more church, and one more ice. `).join(''),
      ),
    ],
  },
  last: {
    words: 'And what do my notes say?',
    steps: [{ tools: [read('notes.md')] }, spoken('Rome, in March.')],
  },
} as const satisfies Readonly<Record<string, Line>>;
