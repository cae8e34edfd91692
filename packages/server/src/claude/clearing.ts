import { setTimeout as delay } from 'node:timers/promises';
import type { SDKSystemMessage } from '@anthropic-ai/claude-agent-sdk';
import type { Profile } from '../engine/ports.ts';
import { mismatchOf } from './options.ts';
import type { ClaudeProcess } from './process.ts';
import type { RunProcess } from './run-process.ts';
import { createWaitingMirror } from './transcripts.ts';
import { within } from './within.ts';

/** What a process may have become before it is used no more. */
export interface ReuseBounds {
  /** Most sessions that are in one process. 1: none is used again. */
  readonly sessions: number;
  /** Most memory of its processes, in bytes. */
  readonly memoryBytes: number;
}

/** Longest that Claude Code may take to drop a session, or to answer a first message, in milliseconds. */
const answerMs = 10_000;

/**
 * Has an idle process drop its session and begin a new one, and takes away what the old one left: files, transcripts,
 * the way to the model. It was never given a rule, and the new session tells its mode. Rejects when the process cannot
 * be used again: it is too old or too large, or something is not as it is in a process that has just started. It must be
 * ended then.
 *
 * Of the old session nothing is in the new one: measured by what the model is sent, and by what is in the process's files.
 */
export async function clear(process: RunProcess, profile: Profile, bounds: ReuseBounds): Promise<void> {
  const { jail, claude } = process;
  if (claude === null) throw new Error('there is no process');
  if (process.sessions >= bounds.sessions) throw new Error(`it has had ${process.sessions} sessions`);
  const before = new Set<string>();
  process.duties = null;
  process.mirror.close();
  await process.mirror.settled();
  process.mirror = createWaitingMirror(before);
  const init = await within(answerMs, newSession(claude));
  if (init.session_id === process.session) throw new Error('the session is the old one');
  const mismatch = mismatchOf(init, profile, init.session_id);
  if (mismatch !== null) throw new Error(mismatch);
  await jail.reset(init.session_id);
  await untilAlone(process);
  const used = jail.memoryBytes();
  if (used > bounds.memoryBytes) throw new Error(`it has ${used} bytes in memory`);
  process.session = init.session_id;
  process.cleared = true;
  process.sessions += 1;
  process.before = before;
}

/** Has a process that has just started run a turn that goes nowhere, so that its next one is as fast as a later one. */
export async function warmUp(claude: ClaudeProcess, uuid: string): Promise<void> {
  claude.send(['Hello'], uuid);
  await within(
    answerMs,
    resultOf(claude, () => {}),
  );
}

async function newSession(claude: ClaudeProcess): Promise<SDKSystemMessage> {
  let init: SDKSystemMessage | null = null;
  claude.sendClear();
  await resultOf(claude, (message) => {
    if (message.type === 'system' && message.subtype === 'init') init = message;
    const { type } = message;
    if (type === 'assistant' || type === 'user' || type === 'stream_event') throw new Error(`there came ${type}`);
    if (type === 'result' && (message.subtype !== 'success' || message.is_error || message.num_turns !== 0)) {
      throw new Error('the session was not dropped');
    }
  });
  if (init === null) throw new Error('there is no new session');
  return init;
}

type Message = NonNullable<Awaited<ReturnType<ClaudeProcess['next']>>>;

async function resultOf(claude: ClaudeProcess, look: (message: Message) => void): Promise<void> {
  for (;;) {
    const message = await claude.next();
    if (message === null) throw claude.endError('the messages ended');
    look(message);
    if (message.type === 'result') return;
  }
}

/** Claude Code, and around it the walls: each of these processes has started the next one, and the last none. */
const mostInChain = 3;

/** Longest that a program may take to end which Claude Code has just used, such as its search, in milliseconds. */
const aloneMs = 2_000;

/** Rejects when other processes than these stay. */
async function untilAlone({ jail }: RunProcess): Promise<void> {
  // Where there are no walls it is one.
  const most = jail.jailed ? mostInChain : 1;
  for (let waited = 0; ; waited += 20) {
    const count = jail.pids().length;
    if (count > 0 && count <= most) return;
    if (count === 0 || waited >= aloneMs) throw new Error(`there are ${count} processes`);
    await delay(20);
  }
}
