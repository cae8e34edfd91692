import { PassThrough } from 'node:stream';
import {
  prewarm,
  query,
  type ClaimOptions,
  type Options,
  type Query,
  type SDKControlReadFileResponse,
  type SDKMessage,
  type SDKUserMessage,
  type SpareProcess,
} from '@anthropic-ai/claude-agent-sdk';
import type { Log, Profile, WorkspaceView } from '../engine/ports.ts';
import { SallyportError } from '../engine/errors.ts';
import { crashOf } from './failures.ts';
import type { Jail } from './jail.ts';
import { effortSetting, mode, sdkOptions, type ProcessPlan } from './options.ts';
import { within } from './within.ts';

/** One Claude Code process, from its start until nothing is left of it. */
export interface ClaudeProcess {
  readonly view: WorkspaceView;
  /** Resolves when Claude Code has started; rejects with `agent_crashed` or `isolation_unavailable`. */
  readonly started: Promise<void>;
  /** Sends one user message; its text reaches the model as it is. */
  send(texts: readonly string[], uuid: string): void;
  /** Sends the command that drops the session and begins a new one. */
  sendClear(): void;
  /**
   * True when the process was a parked one that did not take what it was claimed for: then nothing that was sent has
   * been run, and nothing will.
   */
  refused(): Promise<boolean>;
  /** The next message, null at the end. Rejects when the process died. */
  next(): Promise<SDKMessage | null>;
  /** The first `maxChars` characters of a text file of the workspace; null when there is none. */
  readStart(path: string, maxChars: number): Promise<string | null>;
  /** Asks Claude Code to stop its turn. Resolves when it has agreed, or after `ms`. */
  interrupt(ms: number): Promise<void>;
  /** Ends the process, at first gently if it is idle, and waits until nothing is left of it. Never rejects. */
  end(idle: boolean): Promise<void>;
  /** What is known of how it ended, around what was thrown. For logs. */
  endError(thrown: unknown): Error;
}

const startMs = 30_000;
const readMs = 5_000;
/** Largest file that is read for a diff, in bytes. */
export const readBytes = 4_000_000;
const gentleMs = 1_000;
const killMs = 5_000;
const stderrChars = 4_000;

type Plan = Omit<ProcessPlan, 'spawn'>;

/** A process that has started, but is not yet in any session. */
export interface ParkedProcess {
  /** Begins the session. May be called once; throws when the process has gone. */
  claim(profile: Pick<Profile, 'systemPrompt' | 'effort'>): ClaudeProcess;
  /** Ends it when it was not claimed. Never rejects. */
  end(idle: boolean): Promise<void>;
}

/** Starts Claude Code in its jail. Throws `agent_crashed` or `isolation_unavailable` when it cannot even be spawned. */
export function startProcess(plan: Plan, log: Log): ClaudeProcess {
  const { jail } = plan;
  const input = new PassThrough({ objectMode: true });
  const trace: Trace = { spawned: false, stderr: '', exit: null };
  const session = openQuery(plan, input, trace);
  const started = startOf(session, trace);
  // A run that is stopped meanwhile does not wait for it.
  started.catch(() => {});
  return processOver({ session, input, trace, jail, log, started, claimed: Promise.resolve() });
}

/**
 * Starts Claude Code in its jail before it is known for what: model and tools are fixed, system prompt and effort come
 * with the claim. Rejects with `agent_crashed` or `isolation_unavailable`; nothing of it is left then.
 */
export async function parkProcess(plan: Plan, log: Log): Promise<ParkedProcess> {
  const { jail } = plan;
  const trace: Trace = { spawned: false, stderr: '', exit: null };
  let spare: SpareProcess;
  try {
    spare = await prewarm({ options: optionsOf(plan, trace), initializeTimeoutMs: startMs });
  } catch (error) {
    await killed(jail, trace, log);
    throw error instanceof SallyportError ? error : crashOf(endErrorOf(trace, error));
  }
  const { claimed } = spare;
  // Told by `refused`.
  claimed.catch(() => {});
  return {
    claim({ systemPrompt, effort }) {
      const input = new PassThrough({ objectMode: true });
      // Other options than those of this type would be ignored without a word.
      const options: ClaimOptions = {
        cwd: jail.root,
        permissionMode: mode,
        ...(systemPrompt === null ? {} : { appendSystemPrompt: systemPrompt }),
        ...(effort === null ? {} : { settings: effortSetting(effort) }),
      };
      const session = spare.claim({ prompt: input as AsyncIterable<SDKUserMessage>, options });
      return processOver({ session, input, trace, jail, log, started: Promise.resolve(), claimed });
    },
    async end() {
      spare.close();
      await killed(jail, trace, log);
    },
  };
}

interface Parts {
  readonly session: Query;
  readonly input: PassThrough;
  readonly trace: Trace;
  readonly jail: Jail;
  readonly log: Log;
  readonly started: Promise<void>;
  /** Rejects when the process was claimed and refuses. */
  readonly claimed: Promise<unknown>;
}

function processOver({ session, input, trace, jail, log, started, claimed }: Parts): ClaudeProcess {
  return {
    view: viewOf(session, jail, trace),
    started,
    send(texts, uuid) {
      input.write(userMessage(texts, uuid));
    },
    sendClear() {
      input.write(clearMessage);
    },
    async refused() {
      try {
        await within(readMs, claimed);
        return false;
      } catch (error) {
        // In this one case the session has begun, and goes on with what was sent.
        return !(error instanceof Error && error.message.startsWith('option_not_applied'));
      }
    },
    async next() {
      const { done, value } = await session.next();
      return done === true ? null : value;
    },
    async readStart(path, maxChars) {
      const answer = await readOf(session, path, maxChars * 4, trace);
      // A file that is cut may be cut inside a character, after those that are wanted.
      if (answer === null || (answer.lossy === true && answer.truncated !== true)) return null;
      return answer.contents.slice(0, maxChars).toWellFormed();
    },
    async interrupt(ms) {
      await within(ms, session.interrupt()).catch(() => {});
    },
    async end(idle) {
      input.end();
      // Ends its own input too, and waits for the last of the transcript.
      const closed = session.return().catch(() => {});
      if (idle) await within(gentleMs, Promise.all([closed, trace.spawned ? jail.exited : null])).catch(() => {});
      await killed(jail, trace, log);
    },
    endError: (thrown) => endErrorOf(trace, thrown),
  };
}

async function killed(jail: Jail, trace: Trace, log: Log): Promise<void> {
  jail.kill();
  if (!trace.spawned) return;
  await within(killMs, jail.exited).catch((error: unknown) => {
    log.error({ jail: jail.id, error }, 'a process of Claude Code could not be killed');
  });
}

/** What is seen of a process from outside. */
interface Trace {
  spawned: boolean;
  stderr: string;
  exit: { readonly code: number | null; readonly signal: string | null } | null;
}

function openQuery(plan: Plan, input: PassThrough, trace: Trace): Query {
  try {
    return query({ prompt: input as AsyncIterable<SDKUserMessage>, options: optionsOf(plan, trace) });
  } catch (error) {
    throw crashOf(error);
  }
}

function optionsOf(plan: Plan, trace: Trace): Options {
  return sdkOptions({
    ...plan,
    spawn(options) {
      const child = plan.jail.spawn(options);
      trace.spawned = true;
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        trace.stderr = (trace.stderr + text).slice(-stderrChars);
      });
      child.once('exit', (code, signal) => {
        trace.exit = { code, signal };
      });
      return child;
    },
  });
}

async function startOf(session: Query, trace: Trace): Promise<void> {
  try {
    await within(startMs, session.initializationResult());
  } catch (error) {
    if (error instanceof SallyportError) throw error;
    throw crashOf(endErrorOf(trace, error));
  }
}

function endErrorOf({ exit, stderr }: Trace, cause: unknown): Error {
  const how = exit === null ? 'is there' : `ended with code ${exit.code} and signal ${exit.signal}`;
  return new Error(`Claude Code ${how}; it wrote: ${stderr.trim()}`, { cause });
}

function userMessage(texts: readonly string[], uuid: string): SDKUserMessage {
  return {
    type: 'user',
    message: { role: 'user', content: texts.map((text) => ({ type: 'text', text })) },
    parent_tool_use_id: null,
    uuid: uuid as `${string}-${string}-${string}-${string}-${string}`,
    // Else `@file` is replaced by the file, also one outside the workspace, and a leading slash runs a command.
    client_composed: true,
  };
}

/** The only message that is a command: nobody but us has written it. */
const clearMessage: SDKUserMessage = {
  type: 'user',
  message: { role: 'user', content: '/clear' },
  parent_tool_use_id: null,
};

function viewOf(session: Query, jail: Jail, trace: Trace): WorkspaceView {
  return {
    root: jail.root,
    hostRoot: jail.hostRoot,
    async readFile(path) {
      const answer = await readOf(session, path, readBytes, trace);
      if (answer === null) return null;
      if (answer.truncated === true) throw new Error(`a file is larger than ${readBytes} bytes`);
      if (answer.lossy === true) throw new Error('a file is not text in UTF-8');
      return answer.contents;
    },
    stamps: (limit) => jail.stamps(limit),
  };
}

/** Reads through Claude Code, which sees only what its tools may read. */
async function readOf(
  session: Query,
  path: string,
  maxBytes: number,
  trace: Trace,
): Promise<SDKControlReadFileResponse | null> {
  const answer = await within(readMs, session.readFile(path, { maxBytes }));
  // The SDK says null also when nobody could be asked.
  if (answer === null && trace.exit !== null) throw new Error('the process has ended');
  return answer;
}
