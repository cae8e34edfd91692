// A conversation of five turns about a git repository, over HTTP and server-sent events.
//
//   node tools/run.mjs exec examples/conversation.ts
//
// Claude reads the project and edits it, and a human has the last word on each edit. While one edit waits for the human
// the server is killed: nothing of it is lost. At the end the service's account of the changes is held against git's.
// The program fails when anything is not as expected.
import assert from 'node:assert/strict';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { ApprovalInfo, ClaudeMessage, ConversationDiff, StreamEvent } from '@sallyport/protocol';
import { Answer } from './lib/answer.ts';
import { call, Conversation, getJson } from './lib/client.ts';
import { changedLines, Project } from './lib/project.ts';
import { answerTo, conversation as script, promptOf, type Line } from './lib/script.ts';
import { Service } from './lib/service.ts';
import { line, piece, showDiff, showTool } from './lib/show.ts';

/** A human's word on a call that waits. See `ApprovalDecision` in docs/reference/openapi.json. */
interface Decision {
  readonly decision: 'allow' | 'deny';
  readonly message?: string;
  readonly updated_input?: Readonly<Record<string, unknown>>;
}

const id = 'greeter';
const project = await Project.create();
const service = new Service(project.directory);
const conversation = new Conversation(service, id);
const answers: string[] = [];

/** Follows a turn to its end: shows what happens, and has each approval decided. */
async function follow(
  said: Line,
  events: AsyncIterable<StreamEvent>,
  decide: (approval: ApprovalInfo) => Decision | Promise<Decision> = () => assert.fail('nothing was to be approved'),
): Promise<void> {
  line(`\nYou: ${said.words}`);
  const answer = new Answer();
  for await (const event of events) {
    answer.take(event.type, event.content);
    if (event.type === 'text_delta') piece(event.content);
    else if (event.type === 'tool_start') showTool(event.name, event.input, project.path);
    else if (event.type === 'approval_requested') {
      const { approval } = event;
      line(`  Claude asks to use ${approval.tool}:`);
      showDiff(approval.diff);
      const decision = await decide(approval);
      await call(service, 'POST', `approvals/${approval.approval_id}`, { body: decision });
      line(`  You: ${decision.decision}${decision.message ? `. ${decision.message}` : ''}`);
    } else if (event.type === 'result') {
      assert.equal(event.stop_reason, 'end_turn', event.error ?? '');
    }
  }
  assert.equal(answer.text, answerTo(said), 'every word came once');
  answers.push(answer.text);
}

/** The server is killed while it waits for us, and a new one is started on the same data. */
async function killAndAllow(asked: ApprovalInfo): Promise<Decision> {
  const killed = service.pid;
  await service.kill();
  line(`  Server ${killed} was killed.`);
  await service.start();
  line(`  Server ${service.pid} runs on the same data. We read on after cursor ${conversation.cursor}.`);
  // A human finds what waits in the inbox: it is the same approval as before.
  const { items } = await getJson<{ items: ApprovalInfo[] }>(service, 'approvals?status=pending');
  assert.deepEqual(
    items.map(({ approval_id, input }) => ({ approval_id, input })),
    [{ approval_id: asked.approval_id, input: asked.input }],
  );
  return { decision: 'allow' };
}

/** A new file is not wanted. The edit that comes instead has a slip of the pen, which the human corrects. */
function correct({ tool, input }: ApprovalInfo): Decision {
  if (tool === 'Write') return { decision: 'deny', message: 'No new file, please. Say it in the README.' };
  const corrected = String(input['new_string']).replace('wrold', 'world');
  line(`  You make it: ${corrected}`);
  return { decision: 'allow', updated_input: { ...input, new_string: corrected } };
}

/** What the service says it changed is what git says has changed. */
async function compareDiffs(): Promise<void> {
  const { changes, changes_truncated, changed_paths } = await getJson<ConversationDiff>(
    service,
    `conversation/${id}/diff`,
  );
  const byGit = await project.diff();
  line(`\nChanged, by the service's account: ${changed_paths.join(', ')}`);
  showDiff(changes);
  line('Changed, by git:');
  showDiff(byGit);
  assert.equal(changes_truncated, false);
  assert.deepEqual(changedLines(changes ?? ''), changedLines(byGit));
  assert.deepEqual(changed_paths, ['README.md', 'src/greet.js']);
  assert.match(byGit, /^\+Says hello, to the world if you give no name\.$/mu, "the human's words, not Claude's");
  await assert.rejects(access(join(project.path, 'DEFAULTS.md')), 'what was denied was not written');
}

/** The history, too, holds every word once. */
async function compareHistory(): Promise<void> {
  const { items } = await getJson<{ items: ClaudeMessage[] }>(service, `conversation/${id}/messages`);
  const told: string[] = [];
  for (const { role, content } of items) {
    if (role === 'user') told.push('');
    else told.push(`${told.pop() ?? ''}${content}`);
  }
  assert.deepEqual(told, answers);
}

try {
  await service.start();
  line(`Server ${service.pid} answers at ${service.url}. The project is in ${project.path}.`);
  // Edits need approval (that is the default mode), and a turn may take up to ten answers of the model.
  const start = { prompt: promptOf(script.read), project_path: project.path, max_turns: 10 };
  await follow(script.read, conversation.start(start));
  await follow(script.edit, conversation.say(promptOf(script.edit)), () => ({ decision: 'allow' }));
  await follow(script.killed, conversation.say(promptOf(script.killed)), killAndAllow);
  await follow(script.denied, conversation.say(promptOf(script.denied)), correct);
  await follow(script.last, conversation.say(promptOf(script.last)));
  await compareDiffs();
  await compareHistory();
  line('\nAll is as expected.');
} finally {
  await service.stop();
}
