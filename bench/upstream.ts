import { startSimulator, type MessagesRequest } from '@sallyport/simulator';
import { answerWith, wordsIn } from './words.ts';

/** What Claude Code offers beside its tools: it stands for those that it leaves out. */
const placeholder = 'DeferredToolPlaceholder';

/** Answers at once with the words of all the user's messages and the names of the offered tools. */
function brain({ messages, tools = [] }: MessagesRequest) {
  const asked = messages.filter(({ role }) => role === 'user');
  const offered = tools.map(({ name }) => name).filter((name) => name !== placeholder);
  return { text: answerWith(wordsIn(JSON.stringify(asked)), offered) };
}

const simulator = await startSimulator({ script: brain, recordBodies: false });
process.stdout.write(`Address: ${simulator.url}\n`);
