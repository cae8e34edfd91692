import { newUuid } from '../engine/ids.ts';
import type { Recovery, ToolCall, TranscriptEntry, TranscriptState } from '../engine/ports.ts';

type Json = Readonly<Record<string, unknown>>;

/** A tool call in a transcript. */
interface Call {
  readonly id: string;
  readonly name: string;
  readonly input: unknown;
  /** The entry that holds it. */
  readonly entry: TranscriptEntry;
}

/** How a model message ends after which it is not called again for the turn. */
const lastStops: ReadonlySet<unknown> = new Set(['end_turn', 'stop_sequence']);

/**
 * Where the turn of a message stands in a main transcript. Claude Code stores a model message as a whole, when its
 * stream has ended: what it says and calls before that is not there.
 */
export function transcriptState(entries: readonly TranscriptEntry[], messageUuid: string): TranscriptState {
  const main = entries.filter(isMain);
  const start = main.findIndex(({ type, uuid }) => type === 'user' && uuid === messageUuid);
  const turn = start === -1 ? [] : main.slice(start + 1);
  const closed = outcomesOf(turn);
  const open = callsOf(turn).filter(({ id }) => !closed.has(id));
  const last = turn.findLast(isOfModel);
  return {
    hasMessage: start !== -1,
    answered: last !== undefined && lastStops.has(messageOf(last)['stop_reason']) && open.length === 0,
    open: open.map(({ id, name }) => ({ toolUseId: id, name })),
    closed,
    hasText: (messageId, text) =>
      turn
        .filter((entry) => isOfModel(entry) && messageOf(entry)['id'] === messageId)
        .some((entry) => blocksOf(entry).some((block) => block['text'] === text || block['thinking'] === text)),
  };
}

/** A call of a transcript that has no outcome, as it is asked about: with the input it is to be made with. Throws when there is none. */
export function dueCall(
  entries: readonly TranscriptEntry[],
  { toolUseId, input }: NonNullable<Recovery['call']>,
): ToolCall {
  const { id, name, entry } = openCall(entries.filter(isMain), toolUseId);
  return { id, name, input, messageId: String(messageOf(entry)['id']) };
}

/** A transcript that Claude Code goes on from by itself. */
export interface Mended {
  /** What its process finds. */
  readonly restored: readonly TranscriptEntry[];
  /** Entries to be appended to the stored transcript before the process starts: later ones refer to them. */
  readonly added: readonly TranscriptEntry[];
}

/**
 * Closes what a turn that lost its process left open: known outcomes are put in as results, and the call that is to be
 * made as a call that was deferred, which Claude Code makes once, under the same id, when it resumes. Left open, calls
 * are dropped by it together with what the model said, and the model is asked anew. Throws when a call is not open.
 *
 * Claude Code makes a deferred call with the input of the model's message, unless our hook is there in time: so what
 * is restored holds the allowed input there. What is stored keeps the model's.
 */
export function mended(entries: readonly TranscriptEntry[], recovery: Recovery, at: number): Mended {
  const main = entries.filter(isMain);
  const added: TranscriptEntry[] = [];
  const append = ({ entry }: Call, content: Json): void => {
    const parentUuid = added.at(-1)?.['uuid'] ?? main.findLast(isChained)?.['uuid'];
    added.push({ parentUuid, isSidechain: false, ...content, uuid: newUuid(), ...originOf(entry, at) });
  };
  for (const { toolUseId, text, ok } of recovery.outcomes) {
    const call = openCall(main, toolUseId);
    const result = { type: 'tool_result', content: text, is_error: !ok, tool_use_id: toolUseId };
    const message = { role: 'user', content: [result] };
    append(call, { type: 'user', message, toolUseResult: text, sourceToolAssistantUUID: call.entry['uuid'] });
  }
  if (recovery.call === null) return { restored: [...entries, ...added], added };
  const { toolUseId, input } = recovery.call;
  const made = openCall(main, toolUseId);
  append(made, { type: 'attachment', attachment: deferred(made, input) });
  const restored = entries.map((entry) => (entry === made.entry ? withInput(entry, toolUseId, input) : entry));
  return { restored: [...restored, ...added], added };
}

function openCall(main: readonly TranscriptEntry[], id: string): Call {
  const call = callsOf(main).findLast((each) => each.id === id);
  if (call === undefined || outcomesOf(main).has(id))
    throw new Error(`the tool call ${id} is not open in the transcript`);
  return call;
}

function deferred({ id, name }: Call, input: Json): Json {
  return {
    type: 'hook_deferred_tool',
    toolUseID: id,
    toolName: name,
    toolInput: input,
    hookName: 'settings',
    hookEvent: 'PreToolUse',
    permissionMode: 'default',
  };
}

/** What every entry says of where it comes from, as the entry before it says it. */
function originOf({ userType, entrypoint, cwd, sessionId, version, gitBranch }: TranscriptEntry, at: number): Json {
  return { timestamp: new Date(at).toISOString(), userType, entrypoint, cwd, sessionId, version, gitBranch };
}

function withInput(entry: TranscriptEntry, id: string, input: Json): TranscriptEntry {
  const content = blocksOf(entry).map((block) => (block['id'] === id ? { ...block, input } : block));
  return { ...entry, message: { ...messageOf(entry), content } };
}

/** The tool calls of entries, oldest first. */
export function callsOf(entries: readonly TranscriptEntry[]): Call[] {
  return entries.filter(isOfModel).flatMap((entry) =>
    blocksOf(entry)
      .filter(({ type }) => type === 'tool_use')
      .map(({ id, name, input }) => ({ id: String(id), name: String(name), input, entry })),
  );
}

/** The ids of the tool calls that have an outcome in the entries. */
export function outcomesOf(entries: readonly TranscriptEntry[]): Set<string> {
  const results = entries
    .filter(({ type }) => type === 'user')
    .flatMap(blocksOf)
    .filter(({ type }) => type === 'tool_result');
  return new Set(results.map((block) => String(block['tool_use_id'])));
}

const isMain = ({ isSidechain }: TranscriptEntry): boolean => isSidechain !== true;
const isChained = ({ uuid, parentUuid }: TranscriptEntry): boolean => uuid !== undefined && parentUuid !== undefined;
/** What Claude Code itself says in the model's place is an error in words. */
const isOfModel = (entry: TranscriptEntry): boolean =>
  entry['type'] === 'assistant' && messageOf(entry)['model'] !== '<synthetic>';
const messageOf = ({ message }: TranscriptEntry): Json => objectOf(message);

function blocksOf(entry: TranscriptEntry): Json[] {
  const { content } = messageOf(entry);
  return Array.isArray(content) ? content.map(objectOf) : [];
}

function objectOf(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}
