import { readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { LogEventBody } from '@sallyport/protocol';
import { startSimulator, type Brain, type Script, type Simulator } from '@sallyport/simulator';
import { createBroker, type BrokerOptions } from '../broker/broker.ts';
import { loadPrices } from '../broker/prices.ts';
import { systemClock } from '../engine/clock.ts';
import { newUuid } from '../engine/ids.ts';
import type {
  ApprovalVerdict,
  ModelCall,
  Profile,
  RunHost,
  RunOrder,
  Runner,
  ToolCall,
  TranscriptEntry,
  TranscriptStore,
  WorkspaceView,
} from '../engine/ports.ts';
import { claudeExecutable } from './executable.ts';
import { createJails, type Jails } from './jail.ts';
import { marker } from './registry.ts';
import type { IsolationSetting } from './isolation.ts';
import { createRunner } from './runner.ts';
import type { SpareShape } from './spares.ts';
import { prepareRunDirectory } from './slots.ts';
import { createWorkspaceFiles } from './workspace-files.ts';

/** A runner with everything real but the model, which is simulated. */
export interface TestRunner {
  readonly runner: Runner;
  readonly jails: Jails;
  readonly simulator: Simulator;
  /** Transcripts by session, and how many of the next appends fail. */
  readonly transcripts: { readonly kept: Map<string, TranscriptEntry[]>; failures: number };
  readonly calls: ModelCall[];
  /** What was logged as a warning or an error. */
  readonly warnings: string[];
  /** An empty directory for `projectPath`. */
  readonly project: string;
  /** Where the files of conversations are kept. */
  readonly keptDir: string;
  readonly runDir: string;
}

export interface TestRunnerOptions {
  readonly setting?: IsolationSetting;
  readonly maxProcesses?: number;
  readonly maxWaiting?: number;
  /** Most one-shots of a process. Default: 1. */
  readonly sessions?: number;
  readonly memoryBytes?: number;
  /** The spares that are kept. Default: none. */
  readonly spares?: readonly SpareShape[];
  readonly broker?: Partial<BrokerOptions>;
  /** How the simulated upstream names its model. */
  readonly model?: string;
  /** Instead of Claude Code. */
  readonly claudeBinary?: string;
  /** The server before this one: its transcripts, kept files, project and model are this one's too. */
  readonly after?: TestRunner;
}

/** Starts a runner; it is closed when the test ends, and nothing may be left of it. */
export async function startRunner(
  t: TestContext,
  script: Script | Brain,
  options: TestRunnerOptions = {},
): Promise<TestRunner> {
  // A short path: that of a socket is bounded.
  const base = await realpath(await mkdtemp(join(tmpdir(), 'spr-')));
  // Claude Code may run as another user.
  await chmod(base, 0o755);
  const { path: runDir, brokerSocket } = await prepareRunDirectory(join(base, 'run'));
  const { after } = options;
  const project = after?.project ?? (await openDirectory(base));
  const keptDir = after?.keptDir ?? join(base, 'data/workspaces');
  const simulator =
    after?.simulator ??
    (await startSimulator(options.model === undefined ? { script } : { script, model: options.model }));
  simulator.play(script);
  const warnings: string[] = [];
  const warn = (data: object, message: string) => void warnings.push(`${message} ${describe(data)}`);
  const log = { info() {}, warn, error: warn };
  const calls: ModelCall[] = [];
  const broker = await createBroker({
    socketPath: brokerSocket,
    upstreams: [{ name: 'simulator', baseUrl: simulator.url, keys: [], maxConcurrent: 100, models: null }],
    prices: loadPrices(null),
    clock: systemClock,
    log,
    record: async (call) => void calls.push(call),
    retry: { baseDelayMs: 1, maxDelayMs: 2 },
    ...options.broker,
  });
  const jails = await createJails({
    setting: options.setting ?? 'none',
    runDir,
    hidden: [],
    keptDir,
    brokerSocket,
    claudeBinary: options.claudeBinary ?? claudeExecutable(),
    clock: systemClock,
    log,
  });
  const transcripts = after?.transcripts ?? { kept: new Map<string, TranscriptEntry[]>(), failures: 0 };
  const store = storeOver(transcripts);
  const parts = {
    broker,
    jails,
    transcripts: store,
    files: createWorkspaceFiles({ keptDir }),
    clock: systemClock,
    log,
  };
  const runner = createRunner({ ...parts, ...boundsOf(options) });
  t.after(async () => {
    await runner.close();
    await jails.close();
    await broker.close();
    await simulator.close();
    await rm(base, { recursive: true, force: true });
  });
  return { runner, jails, simulator, transcripts, calls, warnings, project, keptDir, runDir };
}

function boundsOf(options: TestRunnerOptions) {
  const { maxProcesses = 4, maxWaiting = 20, sessions = 1, memoryBytes = 350 * 2 ** 20, spares = [] } = options;
  const reuse = { sessions, memoryBytes };
  return { maxProcesses, maxWaiting, reuse, spares: { count: spares.length, shapes: spares } };
}

/** SIGKILL for all that runs in the jails, with no wait between: when this returns, nothing in them does anything more. */
export function killJailed({ jails }: TestRunner): void {
  const marks = jails.live().map(({ id }) => `${marker}=${id}`);
  const isMarked = (pid: string): boolean => {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
      return marks.some((mark) => environment.includes(mark));
    } catch {
      // It has gone, or is not ours.
      return false;
    }
  };
  const found = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isMarked(name));
  if (found.length === 0) throw new Error('nothing runs in the jails');
  for (const pid of found) process.kill(Number(pid), 'SIGKILL');
}

async function openDirectory(base: string): Promise<string> {
  const project = await mkdtemp(join(base, 'project-'));
  await chmod(project, 0o777);
  return project;
}

function describe(data: object): string {
  return JSON.stringify(data, (_key, value: unknown) => (value instanceof Error ? String(value.stack) : value));
}

function storeOver(state: TestRunner['transcripts']): TranscriptStore {
  return {
    async append({ tenant, session }, entries) {
      if (state.failures > 0) {
        state.failures -= 1;
        throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
      }
      const key = `${tenant}/${session}`;
      state.kept.set(key, [...(state.kept.get(key) ?? []), ...entries]);
    },
    load: async ({ tenant, session }) => state.kept.get(`${tenant}/${session}`) ?? null,
    has: async (tenant, session) => state.kept.has(`${tenant}/${session}`),
    subpaths: async () => [],
    delete: async () => {},
  };
}

export function order(changes: Partial<Omit<RunOrder, 'profile'>> & { profile?: Partial<Profile> } = {}): RunOrder {
  const id = newUuid();
  return {
    ref: { tenant: 'acme', conversation: `conv-${id}`, turn: `turn-${id}`, epoch: 1 },
    key: 'key',
    sdkSession: newUuid(),
    resume: false,
    recovery: null,
    stay: false,
    before: { calls: 0, spentUsd: 0 },
    keepFiles: false,
    prompt: 'Hello',
    messageUuid: newUuid(),
    files: [],
    instructions: false,
    budgetUsd: null,
    maxTurns: 100,
    ...changes,
    profile: {
      tenant: 'acme',
      projectPath: null,
      access: 'rw',
      permissionMode: 'acceptEdits',
      tools: ['Read', 'Bash'],
      model: 'sallyport-simulator',
      effort: null,
      systemPrompt: null,
      outputSchema: null,
      ...changes.profile,
    },
  };
}

/** A host that allows every tool and keeps what it is told. Overwrite what a test needs otherwise. */
export class TestHost implements RunHost {
  /** Durable events and, in their place, the calls that were allowed. */
  readonly events: (LogEventBody | { readonly type: 'allowed' | 'asked'; readonly call: ToolCall })[] = [];
  readonly deltas: string[] = [];
  /** Calls that Claude Code did not run although they were allowed. */
  readonly refused: string[] = [];
  lookedAtEnd = 0;

  timeLeftMs = () => Infinity;

  /** What it was told of its place. */
  readonly places: number[] = [];

  queued(place: number): void {
    this.places.push(place);
  }

  delta(_block: 'text' | 'thinking', text: string): void {
    this.deltas.push(text);
  }

  record: RunHost['record'] = async (event) => void this.events.push(event);

  toolCall: RunHost['toolCall'] = async (call) => {
    this.events.push({ type: 'allowed', call });
    return { behavior: 'allow' };
  };

  approve: RunHost['approve'] = () => Promise.reject(new Error('nobody was to be asked'));

  toolRefused: RunHost['toolRefused'] = async (id) => void this.refused.push(id);

  batchEnded: RunHost['batchEnded'] = async () => 'continue';

  mayCall: RunHost['mayCall'] = async () => 'yes';

  ended: RunHost['ended'] = async () => {
    this.lookedAtEnd += 1;
  };

  get types(): string[] {
    return this.events.map(({ type }) => type);
  }

  get text(): string {
    return this.events.map((event) => (event.type === 'text' ? event.text : '')).join('');
  }
}

/** A host that asks a human about every tool but `Read`. */
export class AskingHost extends TestHost {
  /** The calls a human was asked about. */
  readonly asked: ToolCall[] = [];

  constructor(human: (call: ToolCall, view: WorkspaceView) => ApprovalVerdict | Promise<ApprovalVerdict>) {
    super();
    this.toolCall = async (call) => {
      if (call.name !== 'Read') return { behavior: 'ask' };
      this.events.push({ type: 'allowed', call });
      return { behavior: 'allow' };
    };
    this.approve = async (call, view) => {
      this.asked.push(call);
      this.events.push({ type: 'asked', call });
      return await human(call, view);
    };
  }
}

/** Waits until the condition holds, or fails after 20 s. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('it did not come to this within 20 s');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export const never = new AbortController().signal;
