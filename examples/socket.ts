// A conversation of three turns about a git repository, over a WebSocket.
//
//   node tools/run.mjs exec examples/socket.ts
//
// One connection carries it all: messages, streamed answers, and the human's word on an edit. In the middle of a long
// answer the connection is dropped. The answer goes on without it, and a new connection gets exactly the rest. The
// program fails when anything is not as expected.
import assert from 'node:assert/strict';
import type { ClaudeMessage, ConversationDiff } from '@sallyport/protocol';
import { Answer } from './lib/answer.ts';
import { getJson } from './lib/client.ts';
import { changedLines, Project } from './lib/project.ts';
import { answerTo, overSocket as script, promptOf, type Line } from './lib/script.ts';
import { Service } from './lib/service.ts';
import { line, piece, showDiff, showTool } from './lib/show.ts';
import { Socket } from './lib/socket.ts';

const id = 'greeter';
const project = await Project.create();
const service = new Service(project.directory);
let socket: Socket;
/** The place of the last event that was seen. */
let cursor = '';

/**
 * Reads frames until the turn ends or the socket closes, whichever is first. True: the turn has ended. An event of the
 * conversation comes as a frame of type `claude_response`, with its own type as `event_type`.
 */
async function read(answer: Answer, enough: (text: string) => boolean): Promise<boolean> {
  for await (const frame of socket.frames()) {
    if (frame.type === 'error') throw new Error(`${frame.code}: ${frame.error}`);
    if (frame.type !== 'claude_response') continue; // conversation_started, for one
    cursor = frame.seq;
    answer.take(frame.event_type, frame.content);
    if (frame.event_type === 'text_delta') piece(frame.content);
    else if (frame.event_type === 'tool_start') showTool(frame.name, frame.input, project.path);
    else if (frame.event_type === 'approval_requested') {
      const { approval_id, tool, diff } = frame.approval;
      line(`  Claude asks to use ${tool}:`);
      showDiff(diff);
      socket.send({ type: 'approval', approval_id, decision: 'allow' });
      line('  You: allow');
    } else if (frame.event_type === 'result') {
      assert.equal(frame.stop_reason, 'end_turn', frame.error ?? '');
      return true;
    }
    if (enough(answer.text)) return false;
  }
  return false;
}

/** Says something and gives the answer. After so many characters of it the connection is dropped, once. */
async function talk({ words }: Line, frame: Parameters<Socket['send']>[0], dropAfter = Infinity): Promise<string> {
  line(`\nYou: ${words}`);
  const answer = new Answer();
  socket.send(frame);
  if (await read(answer, (text) => text.length >= dropAfter)) return answer.text;
  socket.close();
  line(`  The connection is gone after ${answer.text.length} characters, at cursor ${cursor}.`);
  socket = await Socket.open(service);
  socket.send({ type: 'resume', session_id: id, after: cursor });
  assert.ok(await read(answer, () => false), 'the turn ends on the new connection');
  return answer.text;
}

/** The text that came over two connections is the one that the service keeps. */
async function compareText(text: string): Promise<void> {
  const { items } = await getJson<{ items: ClaudeMessage[] }>(service, `conversation/${id}/messages`);
  assert.equal(text, items.at(-1)?.content);
  assert.equal(text, answerTo(script.dropped));
  line(`The answer of ${text.length} characters is whole.`);
}

/** What the service says it changed is what git says has changed. */
async function compareDiffs(): Promise<void> {
  const { changes } = await getJson<ConversationDiff>(service, `conversation/${id}/diff`);
  const byGit = await project.diff();
  line('\nChanged:');
  showDiff(byGit);
  assert.deepEqual(changedLines(byGit), [
    "src/greet.js: +  return 'Welcome ' + name;",
    "src/greet.js: -  return 'Hello ' + name;",
  ]);
  assert.deepEqual(changedLines(changes ?? ''), changedLines(byGit));
}

try {
  await service.start();
  line(`Server ${service.pid} answers at ${service.url}. The project is in ${project.path}.`);
  socket = await Socket.open(service);
  const start = { type: 'start_conversation', session_id: id, project_path: project.path } as const;
  await talk(script.read, { ...start, prompt: promptOf(script.read) });
  await talk(script.edit, { type: 'send_message', message: promptOf(script.edit) });
  const long = await talk(script.dropped, { type: 'send_message', message: promptOf(script.dropped) }, 150);
  await compareText(long);
  await compareDiffs();
  line('\nAll is as expected.');
  socket.close();
} finally {
  await service.stop();
}
