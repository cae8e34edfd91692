import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Block, Brain } from '@sallyport/simulator';
import { leftOut } from '../../../../test/support/needs.ts';
import type { ApprovalVerdict, Profile, Recovery, RunOrder, ToolCall } from '../engine/ports.ts';
import { keptVersion } from './kept-support.ts';
import { AskingHost, never, order, startRunner, type TestRunner } from './runner-support.ts';

export const setting = leftOut('runs in a jail', ['bwrap', 'socat']) ? 'none' : 'bwrap';

export type Call = { readonly name: string; readonly input: Record<string, unknown> };
export const write = (content: string, file_path = 'a.txt'): Call => ({ name: 'Write', input: { file_path, content } });
export const bash = (command: string): Call => ({ name: 'Bash', input: { command } });

/** A model that makes the calls in one answer, and then says how many answers it has given. Ids are made up anew. */
export function modelOf(tools: readonly Call[]): Brain {
  let answers = 0;
  return () =>
    (answers += 1) === 1 ? { text: 'I go.', tools: [...tools], parallel: true } : { text: `answer ${answers}` };
}

type Human = (call: ToolCall, nth: number) => ApprovalVerdict;

/** A turn whose process was freed because a human takes too long, and what is known of it. */
export interface Freed {
  readonly one: TestRunner;
  readonly model: Brain;
  /** With which it goes on. */
  readonly order: RunOrder;
  readonly open: readonly { readonly toolUseId: string; readonly name: string }[];
  /** The call that the human did not decide about. */
  readonly call: ToolCall;
}

export async function freed(
  t: TestContext,
  calls: readonly Call[],
  human: Human = () => ({ behavior: 'free' }),
): Promise<Freed> {
  const model = modelOf(calls);
  const one = await startRunner(t, model, { setting });
  const profile: Partial<Profile> = {
    permissionMode: 'askForEdits',
    tools: ['Read', 'Write', 'Bash', 'AskUserQuestion'],
  };
  const asked = order({ profile, keepFiles: true, prompt: 'first prompt' });
  const host: AskingHost = new AskingHost((call) => human(call, host.asked.length));
  const end = await one.runner.run(asked, host, never);
  assert.deepEqual([end.reason, end.failure], ['freed', null]);
  assertQuiet(one);
  const { messageUuid, sdkSession } = asked;
  const state = await one.runner.transcriptState('acme', sdkSession, messageUuid);
  const [text] = host.events;
  assert.ok(text?.type === 'text' && state.hasText(text.message_id, 'I go.') && !state.hasText(text.message_id, 'I'));
  assert.deepEqual([state.hasMessage, state.answered], [true, false]);
  const call = host.asked.at(-1)!;
  assert.ok(state.open.some(({ toolUseId }) => toolUseId === call.id));
  return { one, model, order: { ...asked, resume: true }, open: state.open, call };
}

/** Goes on with the turn on another server, where the human decides about the call that is to be made. */
export async function goOn(
  t: TestContext,
  { one, model, order: asked }: Freed,
  recovery: Recovery,
  verdict?: ApprovalVerdict,
) {
  const two = await startRunner(t, model, { setting, after: one });
  const { call } = recovery;
  const host = new AskingHost(
    () => verdict ?? (call ? { behavior: 'allow', input: call.input } : assert.fail('asked')),
  );
  const end = await two.runner.run({ ...asked, recovery }, host, never);
  assertQuiet(two);
  return { two, host, end, sent: blocksOf(one) };
}

/** Nothing is left, and nothing is warned of but that a process which was being killed asked the model in vain. */
export function assertQuiet({ jails, warnings }: TestRunner): void {
  const told = warnings.filter((line) => !line.startsWith('model call without a turn refused'));
  assert.deepEqual([jails.live(), told], [[], []]);
}

export const made = (call: ToolCall, input: ToolCall['input'] = call.input): Recovery => ({
  outcomes: [],
  call: { toolUseId: call.id, input },
});

/** The files of the only conversation. */
export async function files(runner: TestRunner): Promise<Record<string, string>> {
  const kept = await keptVersion(runner);
  const names = await readdir(kept);
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(kept, name), 'utf8')])),
  );
}

/** What the model was sent last of calls and their outcomes. */
export function blocksOf({ simulator }: TestRunner): Block[] {
  const messages = simulator.requests.at(-1)?.body?.messages ?? [];
  return messages
    .flatMap(({ content }) => (typeof content === 'string' ? [] : content))
    .filter(({ type }) => type === 'tool_use' || type === 'tool_result');
}

/** The only call that the model was sent and its only outcome. */
export function onlyCall(blocks: readonly Block[]): { readonly call: Block; readonly result: Block } {
  const [call, result, ...more] = blocks;
  assert.deepEqual([call?.type, result?.type, more, call?.id], ['tool_use', 'tool_result', [], result?.tool_use_id]);
  return { call: call!, result: result! };
}
