import assert from 'node:assert/strict';
import type { Step } from '@sallyport/simulator';
import { call } from './approvals.ts';
import { scripted } from './runs.ts';

type Tool = NonNullable<Step['tools']>[number];

/** Calls of tools, for scripts. */
export const write = (path: string, content: string): Tool => ({ name: 'Write', input: { file_path: path, content } });
export const edit = (path: string, from: string, to: string): Tool => ({
  name: 'Edit',
  input: { file_path: path, old_string: from, new_string: to },
});
export const read = (path: string): Tool => ({ name: 'Read', input: { file_path: path } });
export const bash = (command: string): Tool => ({ name: 'Bash', input: { command } });

/** One model call for each tool, and an end. */
export const steps = (...tools: Tool[]): Step[] => [...tools.map((tool) => ({ tools: [tool] })), { text: 'Done.' }];

/** A run that may change files and run commands unasked. */
export const unasked = {
  permission_mode: 'acceptEdits',
  allowed_tools: ['Read', 'Glob', 'Edit', 'Write', 'Bash'],
  max_turns: 10,
};

/** Starts a conversation in which the model does what the steps say, which must work. */
export async function start(
  of: { url: string },
  id: string,
  played: readonly Step[],
  more: object = {},
): Promise<void> {
  const body = { prompt: scripted(played), ...unasked, ...more };
  const answer = await call(of, 'POST', `conversation/start?session_id=${id}`, body);
  assert.equal(answer.body['success'], true, JSON.stringify(answer.body));
}

/** The next turn of a conversation, which must work. */
export async function next(of: { url: string }, id: string, played: readonly Step[]): Promise<void> {
  const { body } = await call(of, 'POST', `conversation/${id}/continue`, { session_id: id, message: scripted(played) });
  assert.equal(body['success'], true, JSON.stringify(body));
}
