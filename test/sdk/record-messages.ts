// Records what Claude Code really says, for the replays in packages/server/src/claude/translate.test.ts.
//   node test/sdk/record-messages.ts          all recordings
//   node test/sdk/record-messages.ts cut-once one of them
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Options, SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import type { Script } from '@sallyport/simulator';
import { allow, startClaude, type Claude } from './claude.ts';

interface Recording {
  readonly script: Script;
  readonly options?: Partial<Options>;
  /** Sees every message as it comes. */
  readonly act?: (message: SDKMessage, claude: Claude) => void;
}

const hooked = (decide: (input: { tool_input?: unknown }) => object): Pick<Options, 'hooks'> => ({
  hooks: { PreToolUse: [{ hooks: [async (input) => decide(input as { tool_input?: unknown })] }] },
});
const allowAll = hooked(() => allow);
const deny = {
  hookSpecificOutput: { hookEventName: 'PreToolUse', permissionDecision: 'deny', permissionDecisionReason: 'no' },
};
const read = (file: string, id: string) => ({ name: 'Read', input: { file_path: file }, id });
// With a rate, as a socket that is cut at once can lose what was written before.
const text = { text: 'Hello there, how are you today?', chunk: 8, rate: 40 };
const answer = { thinking: 'They greet me.', ...text };
const twoBlocks = {
  blocks: [
    { type: 'text' as const, text: 'The first block.' },
    { type: 'text' as const, text: 'The second block.' },
  ],
  chunk: 6,
  rate: 40,
};
const interruptAt = (reached: (message: SDKMessage) => boolean) => {
  let done = false;
  return (message: SDKMessage, claude: Claude): void => {
    if (done || !reached(message)) return;
    done = true;
    void claude.query.interrupt();
  };
};
const isDelta = (message: SDKMessage) =>
  message.type === 'stream_event' && message.event.type === 'content_block_delta';
const isToolUse = (message: SDKMessage) =>
  message.type === 'assistant' && message.message.content.some((block) => block.type === 'tool_use');

const recordings: Record<string, Recording> = {
  answer: { script: { steps: [answer] } },
  tools: {
    script: {
      steps: [
        { text: 'I look.', tools: [read('a.txt', 'toolu_1'), read('missing.txt', 'toolu_2')] },
        { text: 'There is one file.' },
      ],
    },
    options: allowAll,
  },
  'tool-denied': {
    script: { steps: [{ text: 'I look.', tools: [read('a.txt', 'toolu_1')] }, { text: 'I may not.' }] },
    options: hooked(() => deny),
  },
  /** The first block is cut: Claude Code asks the same again. */
  'cut-once': { script: { steps: [{ ...text, fault: { kind: 'cut', after_chars: 14 }, fault_times: 1 }] } },
  'cut-for-good': { script: { steps: [{ ...text, fault: { kind: 'cut', after_chars: 14 } }] } },
  /** The second block is cut: Claude Code keeps the first and asks to go on. */
  'cut-in-second-block': {
    script: { steps: [{ ...twoBlocks, fault: { kind: 'cut', after_chars: 22 } }, { text: ' And the end.' }] },
  },
  'cut-after-thinking': {
    script: { steps: [{ ...answer, fault: { kind: 'cut', after_chars: 30 }, fault_times: 1 }, answer] },
  },
  'cut-beside-tool': {
    script: {
      steps: [
        {
          blocks: [
            { type: 'text', text: 'I look.' },
            { type: 'tool_use', ...read('a.txt', 'toolu_1') },
            { type: 'text', text: 'While I wait, this is lost.' },
          ],
          chunk: 6,
          rate: 20,
          fault: { kind: 'cut', after_chars: 44 },
          fault_times: 1,
        },
        { text: 'There is one file.' },
      ],
    },
    options: allowAll,
  },
  /** All blocks are whole, the end of the message is missing. */
  'no-message-stop': {
    script: { steps: [{ text: 'All of it.', fault: { kind: 'no_message_stop' }, fault_times: 1 }, { text: 'Done.' }] },
  },
  refusal: {
    script: {
      steps: [
        { text: 'I would', stop_reason: 'refusal' },
        { text: 'No.', stop_reason: 'refusal' },
      ],
    },
  },
  'max-tokens': { script: { steps: [{ text: 'One,', stop_reason: 'max_tokens' }, { text: ' two.' }] } },
  'unknown-events': { script: { steps: [{ ...answer, fault: { kind: 'unknown_events' } }] } },
  'interrupted-in-text': {
    script: { steps: [{ text: 'A very long answer. '.repeat(200), rate: 100 }] },
    act: interruptAt(isDelta),
  },
  'interrupted-in-tool': {
    script: { steps: [{ text: 'I wait.', tools: [{ name: 'Bash', input: { command: 'sleep 20' }, id: 'toolu_1' }] }] },
    options: { tools: ['Bash'], ...allowAll },
    act: (() => {
      const interrupt = interruptAt(isToolUse);
      return (message, claude) => void setTimeout(() => interrupt(message, claude), 400);
    })(),
  },
};

const folder = join(import.meta.dirname, '../../packages/server/src/claude/testdata');
await mkdir(folder, { recursive: true });
const wanted = process.argv.slice(2);
for (const [name, { script, options = {}, act }] of Object.entries(recordings)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const claude = await startClaude(script, options);
  await writeFile(join(claude.workspace, 'a.txt'), 'one line\n');
  claude.send('Hello');
  const { messages } = await claude.turn((message) => act?.(message, claude));
  await claude.close();
  const lines = messages.map(({ ...message }) => {
    // Long, and of no use to a replay.
    if (message.type === 'system' && message.subtype === 'init') return { type: 'system', subtype: 'init' };
    return message;
  });
  const json = lines.map((line) => JSON.stringify(line)).join(',\n');
  const anywhere = json.replaceAll(claude.workspace, '/workspace').replaceAll(claude.configDir, '/config');
  await writeFile(join(folder, `${name}.json`), `[\n${anywhere}\n]\n`);
  console.log(name, messages.length);
}
