import { PassThrough } from 'node:stream';
import {
  query,
  type Query,
  type SDKControlReadFileResponse,
  type SDKMessage,
  type SDKUserMessage,
} from '@anthropic-ai/claude-agent-sdk';
import type { Log, WorkspaceView } from '../engine/ports.ts';
import { SallyportError } from '../engine/errors.ts';
import { crashOf } from './failures.ts';
import type { Jail } from './jail.ts';
import { sdkOptions, type ProcessPlan } from './options.ts';
import { within } from './within.ts';

/** One Claude Code process, from its start until nothing is left of it. */
export interface ClaudeProcess {
  readonly view: WorkspaceView;
  /** Resolves when Claude Code has started; rejects with `agent_crashed` or `isolation_unavailable`. */
  readonly started: Promise<void>;
  /** Sends one user message; its text reaches the model as it is. */
  send(texts: readonly string[], uuid: string): void;
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

/** Starts Claude Code in its jail. Throws `agent_crashed` or `isolation_unavailable` when it cannot even be spawned. */
export function startProcess(plan: Plan, log: Log): ClaudeProcess {
  const { jail } = plan;
  const input = new PassThrough({ objectMode: true });
  const trace: Trace = { spawned: false, stderr: '', exit: null };
  const session = openQuery(plan, input, trace);
  const started = startOf(session, trace);
  // A run that is stopped meanwhile does not wait for it.
  started.catch(() => {});
  return {
    view: viewOf(session, jail, trace),
    started,
    send(texts, uuid) {
      input.write(userMessage(texts, uuid));
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
      jail.kill();
      if (!trace.spawned) return;
      await within(killMs, jail.exited).catch((error: unknown) => {
        log.error({ jail: jail.id, error }, 'a process of Claude Code could not be killed');
      });
    },
    endError: (thrown) => endErrorOf(trace, thrown),
  };
}

/** What is seen of a process from outside. */
interface Trace {
  spawned: boolean;
  stderr: string;
  exit: { readonly code: number | null; readonly signal: string | null } | null;
}

function openQuery(plan: Plan, input: PassThrough, trace: Trace): Query {
  try {
    const options = sdkOptions({
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
    return query({ prompt: input as AsyncIterable<SDKUserMessage>, options });
  } catch (error) {
    throw crashOf(error);
  }
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
