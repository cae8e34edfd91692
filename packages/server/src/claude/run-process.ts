import type { SessionStore } from '@anthropic-ai/claude-agent-sdk';
import type {
  Broker,
  BrokerPass,
  Log,
  Profile,
  Recovery,
  RunOrder,
  ToolCall,
  TranscriptEntry,
  TranscriptStore,
  TurnRef,
  WorkspaceView,
} from '../engine/ports.ts';
import type { Clock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';
import type { Places } from './admission.ts';
import { createHooks, type HookDuties } from './hooks.ts';
import type { Jail, JailProfile, Jails } from './jail.ts';
import { keptName, type KeptAs } from './kept-files.ts';
import { createCanUseTool } from './permission.ts';
import type { ProcessPlan } from './options.ts';
import { readBytes, startProcess, type ClaudeProcess, type ParkedProcess } from './process.ts';
import { dueCall, mended } from './recovery.ts';
import { beforeRun } from './shortage.ts';
import { createTranscriptMirror, pastOf, type TranscriptMirror } from './transcripts.ts';
import type { Turn } from './turn.ts';
import { within } from './within.ts';

/** What processes are made of. */
export interface ProcessParts {
  readonly broker: Broker;
  readonly jails: Jails;
  readonly transcripts: TranscriptStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Places for processes that are starting. */
  readonly starts: Places;
}

/** A process with everything that is made for it. */
export interface RunProcess {
  readonly jail: Jail;
  readonly pass: BrokerPass;
  /** Where the transcript of its session goes. */
  mirror: TranscriptMirror;
  /** Claude Code's own id of its session. */
  session: string;
  /** True when that session is not its first: `/clear` was said before it. */
  cleared: boolean;
  /** The uuids of what stood in that session before the first message. */
  before: ReadonlySet<string>;
  /** How many sessions were in it. */
  sessions: number;
  /** Null when the run was stopped before it was started, and as long as it is parked. */
  claude: ClaudeProcess | null;
  /** Set when it has started, but is not in a session yet. */
  parked: ParkedProcess | null;
  /** What its hooks ask: the turn that is in it. Without one they allow nothing. */
  duties: HookDuties | null;
}

/** A process that is to be made in a place, without what it is made of. */
export function processIn(jail: Jail, pass: BrokerPass, session: string, mirror: TranscriptMirror): RunProcess {
  return {
    jail,
    pass,
    mirror,
    session,
    cleared: false,
    before: new Set(),
    sessions: 1,
    claude: null,
    parked: null,
    duties: null,
  };
}

/** What a process of Claude Code is started with, whoever it is for. It follows its current mirror and duties. */
export function planOf(process: RunProcess, profile: Profile): Omit<ProcessPlan, 'spawn' | 'resume' | 'recovery'> {
  const { jail, pass, session } = process;
  const current = () => process.duties;
  const sessionStore: SessionStore = {
    append: (key, entries) => process.mirror.sessionStore.append(key, entries),
    load: (key) => process.mirror.sessionStore.load(key),
  };
  const asking = { hooks: createHooks(current), canUseTool: createCanUseTool(current) };
  return { profile, session, jail, token: pass.token, sessionStore, ...asking };
}

/** Longest wait for the message with a call to be stored, before the process is killed, in milliseconds. */
const storeMs = 5_000;
/** Longest wait for what a process leaves behind to be deleted. It is deleted later then. */
const removeMs = 15_000;

/** What a process needs of the turn that starts it. */
export interface Starter {
  readonly stopping: Promise<void>;
  readonly duties: (process: RunProcess) => HookDuties | null;
  /** False: the files of the slot are not kept until a turn takes the process. Default: true. */
  readonly keeps?: boolean;
  /** Asks about the call that is to be made at once. Null when the turn is to be stopped. */
  readonly settleCall: (call: ToolCall, view: WorkspaceView) => Promise<Recovery | null>;
}

/**
 * Makes the place of a process and starts it there; `claude` stays null when the turn is stopped before that. Rejects
 * when it cannot begin; nothing is left then.
 */
export async function startRunProcess(
  parts: ProcessParts,
  order: RunOrder,
  pass: BrokerPass,
  starter: Starter,
  signal: AbortSignal,
): Promise<RunProcess> {
  const { jails, transcripts, log } = parts;
  const { keeps = true } = starter;
  const { tenant } = order.ref;
  const past = order.resume ? await pastOf(transcripts, tenant, order.sdkSession) : null;
  const jail = await jails.open(jailProfileOf(order, keeps));
  const process = processIn(jail, pass, order.sdkSession, createTranscriptMirror(transcripts, order.ref, null));
  try {
    await putFiles(process, order);
    const restored = await restoredOf(parts, order, past, jail, starter);
    if (restored === 'stopped') return process;
    const write = jail.writeConfig.bind(jail);
    process.mirror = createTranscriptMirror(transcripts, order.ref, restored && { entries: restored, write });
    process.duties = starter.duties(process);
    if (keeps) await jail.beginFiles();
    await start(parts, order, process, restored !== null, starter.stopping, signal);
    return process;
  } catch (error) {
    await endProcess(process, false, log);
    throw beforeRun(error);
  }
}

/** What the process goes on from; null when it begins. */
async function restoredOf(
  { transcripts, clock }: ProcessParts,
  { ref, sdkSession: session, recovery: asked }: RunOrder,
  past: readonly TranscriptEntry[] | null,
  jail: Jail,
  { settleCall }: Starter,
): Promise<readonly TranscriptEntry[] | null | 'stopped'> {
  if (asked === null) return past;
  if (past === null) throw new SallyportError('internal', { cause: new Error('there is no transcript to go on from') });
  // Asked before there is a process: it may make the call before it knows our hooks.
  const recovery = asked.call === null ? asked : await settleCall(dueCall(past, asked.call), viewBefore(jail));
  if (recovery === null) return 'stopped';
  const { restored, added } = mended(past, recovery, clock.now());
  await transcripts.append({ tenant: ref.tenant, session, subpath: '' }, added, ref);
  return restored;
}

/** What is seen of a workspace while there is no process. */
function viewBefore(jail: Jail): WorkspaceView {
  return {
    root: jail.root,
    hostRoot: jail.hostRoot,
    readFile: (path) => jail.readFile(path, readBytes),
    stamps: (limit) => jail.stamps(limit),
  };
}

async function start(
  { starts, log }: ProcessParts,
  { profile, ref, key, recovery }: RunOrder,
  process: RunProcess,
  resume: boolean,
  stopping: Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const leave = await starts.enter({ tenant: ref.tenant, key }, signal);
  if (leave === null) return;
  try {
    const said = { ...planOf(process, profile), resume, recovery: recovery !== null };
    process.claude = startProcess(said, log);
    await Promise.race([process.claude.started, stopping]);
  } finally {
    leave();
  }
}

/** Puts the files of an order into the workspace. They come once: a server that is killed then must not lose them. */
export async function putFiles({ jail }: RunProcess, { files }: RunOrder): Promise<void> {
  if (files.length === 0) return;
  await jail.writeFiles(files);
  await jail.keepFilesIdle();
}

/** As what the files of a turn are kept. */
export const keptAs = ({ tenant, epoch }: TurnRef, session: string): KeptAs => ({
  name: keptName(tenant, session),
  epoch,
});

function jailProfileOf({ profile, ref, sdkSession, keepFiles }: RunOrder, keeps: boolean): JailProfile {
  const { projectPath, access, tools } = profile;
  const kept = keepFiles ? { kept: keptAs(ref, sdkSession), keeps } : {};
  return { projectPath, access, bash: tools.includes('Bash'), ...kept };
}

/**
 * Kills a process so that its turn can go on in another one: the call it waits with must be in the transcript, and the
 * outcomes of those before it. A process that sees its input closed before it is dead takes the call for denied, stores
 * that and asks the model once more, so all this is closed to it first.
 */
export async function killForRecovery(
  { jail, mirror, pass }: RunProcess,
  turn: Turn,
  call: string,
  log: Log,
): Promise<void> {
  const stored = [mirror.stored('call', call), ...[...turn.outcomes].map((id) => mirror.stored('outcome', id))];
  try {
    await within(storeMs, Promise.all(stored));
  } catch (error) {
    log.error({ jail: jail.id, error }, 'a process is freed whose transcript is not whole');
  }
  turn.leave();
  mirror.close();
  await mirror.settled();
  pass.revoke();
  jail.kill();
}

/** Ends a process and removes all that was made for it. Never rejects. */
export async function endProcess(
  { claude, parked, mirror, jail, pass }: RunProcess,
  idle: boolean,
  log: Log,
  beforeRemoval: () => Promise<void> = async () => {},
): Promise<void> {
  await (claude ?? parked)?.end(idle);
  mirror.close();
  pass.revoke();
  await beforeRemoval();
  try {
    await within(removeMs, jail.remove());
  } catch (error) {
    log.error({ jail: jail.id, error }, 'a jail could not be removed');
  }
}
