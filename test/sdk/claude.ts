import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import {
  query,
  type Options,
  type Query,
  type SDKMessage,
  type SDKResultMessage,
  type SDKUserMessage,
} from '@anthropic-ai/claude-agent-sdk';
import { startSimulator, type Brain, type Script, type Simulator } from '@sallyport/simulator';

/** Claude Code as the SDK starts it, without jail and broker, in front of a simulated model on loopback. */
export interface Claude {
  readonly query: Query;
  readonly simulator: Simulator;
  readonly workspace: string;
  readonly configDir: string;
  /** The process. Known from the start. */
  child(): ChildProcess;
  send(text: string, extra?: Partial<SDKUserMessage>): void;
  /** Reads up to and with the next result. */
  turn(onMessage?: (message: SDKMessage) => unknown): Promise<{ messages: SDKMessage[]; result: SDKResultMessage }>;
  /** Texts of the `n`-th model call's newest user message, without Claude Code's own reminders. */
  said(n: number): string[];
  close(): Promise<void>;
}

/** The permission that a PreToolUse hook gives. */
export const allow = {
  hookSpecificOutput: { hookEventName: 'PreToolUse' as const, permissionDecision: 'allow' as const },
};

/** What Claude Code is started with, and where. */
export interface Setting extends Pick<Claude, 'simulator' | 'workspace' | 'configDir'> {
  readonly options: Options;
  /** The process. Throws before it is started. */
  child(): ChildProcess;
  /** Ends what is left and deletes everything. */
  close(): Promise<void>;
}

/** Prepares a start of Claude Code the way this service does it, but for what `options` change. */
export async function setUp(script: Script | Brain, options: Partial<Options> = {}): Promise<Setting> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'sp-sdk-')));
  const workspace = options.cwd ?? join(base, 'workspace');
  const configDir = join(base, 'config');
  await mkdir(workspace, { recursive: true });
  await mkdir(configDir);
  const simulator = await startSimulator({ script });
  let child: ChildProcess | null = null;
  const process = () => {
    if (child === null) throw new Error('Claude Code was not started');
    return child;
  };
  return {
    simulator,
    workspace,
    configDir,
    child: process,
    options: {
      cwd: workspace,
      env: {
        PATH: '/usr/bin:/bin',
        HOME: configDir,
        CLAUDE_CONFIG_DIR: configDir,
        ANTHROPIC_BASE_URL: simulator.url,
        ANTHROPIC_API_KEY: 'no-key',
        CLAUDE_CODE_MAX_RETRIES: '1',
        CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: '1',
        CLAUDE_CODE_DISABLE_AUTO_MEMORY: '1',
        CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
        DISABLE_TELEMETRY: '1',
        DISABLE_AUTOUPDATER: '1',
      },
      settingSources: [],
      strictMcpConfig: true,
      tools: ['Read'],
      permissionMode: 'default',
      includePartialMessages: true,
      model: 'sallyport-simulator',
      systemPrompt: { type: 'preset', preset: 'claude_code' },
      spawnClaudeCodeProcess(spawning) {
        const started = spawn(spawning.command, spawning.args, {
          cwd: spawning.cwd,
          env: spawning.env,
          stdio: ['pipe', 'pipe', 'ignore'],
          signal: spawning.signal,
        });
        started.on('error', () => {});
        // The SDK listens more often for a process that is parked.
        started.setMaxListeners(0);
        child = started;
        return started;
      },
      ...options,
    },
    async close() {
      process().kill('SIGKILL');
      await simulator.close();
      await rm(base, { recursive: true, force: true });
    },
  };
}

/** Starts Claude Code as `setUp` prepares it. */
export async function startClaude(script: Script | Brain, changes: Partial<Options> = {}): Promise<Claude> {
  const { simulator, workspace, configDir, options, child, close } = await setUp(script, changes);
  const input = new PassThrough({ objectMode: true });
  const session = query({ prompt: input as AsyncIterable<SDKUserMessage>, options });
  return {
    query: session,
    simulator,
    workspace,
    configDir,
    child,
    send(text, extra = {}) {
      const message = { role: 'user' as const, content: text };
      input.write({ type: 'user', message, parent_tool_use_id: null, client_composed: true, ...extra });
    },
    async turn(onMessage = () => {}) {
      const messages: SDKMessage[] = [];
      for (;;) {
        const { done, value } = await session.next();
        if (done === true) throw new Error('no result came');
        messages.push(value);
        onMessage(value);
        if (value.type === 'result') return { messages, result: value };
      }
    },
    said(n) {
      const message = simulator.requests[n]?.body?.messages.findLast(({ role }) => role === 'user');
      const content = message?.content ?? [];
      const texts = typeof content === 'string' ? [content] : content.map((block) => block.text ?? '');
      return texts.filter((text) => text !== '' && !text.startsWith('<system-reminder>'));
    },
    async close() {
      input.end();
      await session.return().catch(() => {});
      await close();
    },
  };
}
