import { startSimulator, type MessagesRequest } from '@sallyport/simulator';
import { answerWith, slowRate, wishesIn, wordsIn } from './words.ts';

/** What Claude Code offers beside its tools: it stands for those that it leaves out. */
const placeholder = 'DeferredToolPlaceholder';

/** Of a long answer, so that it costs the same to say and to hear as another one. */
const longChunk = 65_536;
/** What the model counts: so little that Claude Code never shortens a long conversation. */
const usage = { input_tokens: 100, output_tokens: 100 };

/** Answers at once with the words of all the user's messages and the names of the offered tools, or as was wished. */
function brain({ messages, tools = [] }: MessagesRequest) {
  const asked = messages.filter(({ role }) => role === 'user');
  const offered = tools.map(({ name }) => name).filter((name) => name !== placeholder);
  const text = answerWith(wordsIn(JSON.stringify(asked)), offered);
  const wished = wishesIn(JSON.stringify(asked.at(-1)));
  if (wished.slowly) return { text: text + wished.more, rate: slowRate };
  return wished.more === '' ? { text, usage } : { text: text + wished.more, chunk: longChunk, usage };
}

const simulator = await startSimulator({ script: brain, recordBodies: false });
process.stdout.write(`Address: ${simulator.url}\n`);
