import type {
  HookCallback,
  HookInput,
  HookJSONOutput,
  Options,
  PostToolBatchToolCall,
  PreToolUseHookSpecificOutput,
} from '@anthropic-ai/claude-agent-sdk';
import type { ToolCall } from '../engine/ports.ts';
import { structuredOutputTool } from './options.ts';
import { within } from './within.ts';

/** A tool call as a hook is told of it. */
export type HookedCall = Omit<ToolCall, 'messageId'>;

/** What is answered to a call: `input` is what the tool is called with instead. */
export type CallAnswer =
  | { readonly behavior: 'allow'; readonly input?: HookedCall['input'] }
  | { readonly behavior: 'deny'; readonly message: string };

/** What the hooks of a process ask of the turn that runs in it. */
export interface HookDuties {
  /** Tools that exist in the run. */
  readonly tools: ReadonlySet<string>;
  /** True: the tool for a structured answer exists too and may be called freely, as it only hands the answer over. */
  readonly structured: boolean;
  /** `allow` lets the call run, with `ask` Claude Code asks for a permission. */
  toolCall(call: HookedCall): Promise<CallAnswer | { readonly behavior: 'ask' }>;
  /** Answers that question. Only `allow` with an input lets the call run. */
  permit(call: HookedCall): Promise<CallAnswer>;
  /** Told before a next model call; only `continue` goes on to it. */
  batchEnded(): Promise<'continue' | 'stop'>;
  /** Told when a duty could not be done. The call was denied, or the turn stopped. Must not throw. */
  readonly failed: (error: unknown) => void;
}

/** Longest that a decision may take, in milliseconds. */
const decisionMs = 60_000;
/** What Claude Code waits for a hook, in seconds: longer than our own deadline, which gives the better answer. */
const hookSeconds = 90;

const decided = (output: Omit<PreToolUseHookSpecificOutput, 'hookEventName'>): HookJSONOutput => ({
  hookSpecificOutput: { hookEventName: 'PreToolUse', ...output },
});
const denied = (reason: string) => decided({ permissionDecision: 'deny', permissionDecisionReason: reason });
const allowed = decided({ permissionDecision: 'allow' });
const undecided = denied('This call could not be checked, so it was not made. Do not try it again.');
const stopped: HookJSONOutput = { continue: false, stopReason: 'The run was stopped.' };

/**
 * The hooks of a process. Claude Code lets a tool run when a hook throws or answers what it does not know, so every
 * hook goes through one wrapper that has an answer for that, and asks Claude Code to block should even that fail.
 * `current` gives the duties of the turn that is in the process; without one nothing is allowed.
 */
export function createHooks(current: () => HookDuties | null, deadlineMs = decisionMs): NonNullable<Options['hooks']> {
  type Decide = (duties: HookDuties, input: HookInput) => HookJSONOutput | Promise<HookJSONOutput>;
  const hook = (decide: Decide, otherwise: HookJSONOutput) => {
    const callback: HookCallback = async (input) => {
      const duties = current();
      if (duties === null) return otherwise;
      return await guarded(async () => await decide(duties, input), otherwise, deadlineMs, duties.failed);
    };
    return [{ hooks: [callback], timeout: hookSeconds, onFailure: 'block' as const }];
  };
  return { PreToolUse: hook(beforeTool, undecided), PostToolBatch: hook(afterBatch, stopped) };
}

async function guarded(
  decide: () => Promise<HookJSONOutput>,
  otherwise: HookJSONOutput,
  deadlineMs: number,
  failed: (error: unknown) => void,
): Promise<HookJSONOutput> {
  try {
    return await within(deadlineMs, decide());
  } catch (error) {
    failed(error);
    return otherwise;
  }
}

async function beforeTool(duties: HookDuties, input: HookInput): Promise<HookJSONOutput> {
  if (input.hook_event_name !== 'PreToolUse') throw new Error(`a hook was called for ${input.hook_event_name}`);
  const { tool_name: name, tool_use_id: id, tool_input: toolInput } = input;
  if (name === structuredOutputTool && duties.structured) return allowed;
  if (!duties.tools.has(name)) return denied(`There is no tool ${name} in this run.`);
  if (typeof id !== 'string' || id === '' || !isInput(toolInput)) {
    throw new Error(`the call of ${name} has no id or no input`);
  }
  return answerOf(await duties.toolCall({ id, name, input: toolInput }));
}

function answerOf(answer: Awaited<ReturnType<HookDuties['toolCall']>>): HookJSONOutput {
  if (answer.behavior === 'allow' && answer.input === undefined) return allowed;
  if (answer.behavior === 'allow' && isInput(answer.input)) {
    return decided({ permissionDecision: 'allow', updatedInput: answer.input });
  }
  if (answer.behavior === 'ask') return decided({ permissionDecision: 'ask' });
  if (answer.behavior === 'deny' && typeof answer.message === 'string') return denied(answer.message);
  throw new Error('the verdict on a tool call is not one');
}

/** True for what a tool can be called with. */
export function isInput(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

async function afterBatch(duties: HookDuties, input: HookInput): Promise<HookJSONOutput> {
  if (input.hook_event_name !== 'PostToolBatch') throw new Error(`a hook was called for ${input.hook_event_name}`);
  // With the answer taken Claude is done: there is no next model call to ask about.
  if (duties.structured && input.tool_calls.some(isTakenAnswer)) return {};
  return (await duties.batchEnded()) === 'continue' ? {} : stopped;
}

function isTakenAnswer({ tool_name: name, tool_response: response }: PostToolBatchToolCall): boolean {
  return name === structuredOutputTool && response === 'Structured output provided successfully';
}
