import type {
  HookCallback,
  HookInput,
  HookJSONOutput,
  Options,
  PostToolBatchToolCall,
} from '@anthropic-ai/claude-agent-sdk';
import type { ToolCall, ToolVerdict } from '../engine/ports.ts';
import { structuredOutputTool } from './options.ts';
import { within } from './within.ts';

/** A tool call as a hook is told of it. */
export type HookedCall = Omit<ToolCall, 'messageId'>;

/** What the hooks of a process ask of the turn that runs in it. */
export interface HookDuties {
  /** Tools that exist in the run. */
  readonly tools: ReadonlySet<string>;
  /** True: the tool for a structured answer exists too and may be called freely, as it only hands the answer over. */
  readonly structured: boolean;
  /** Only `allow` lets the call run. */
  toolCall(call: HookedCall): Promise<ToolVerdict>;
  /** Told before a next model call; only `continue` goes on to it. */
  batchEnded(): 'continue' | 'stop';
  /** Told when a hook could not do its duty. The call was denied, or the turn stopped. Must not throw. */
  readonly failed: (error: unknown) => void;
}

/** Longest that a decision may take, in milliseconds. */
const decisionMs = 30_000;
/** What Claude Code waits for a hook, in seconds: longer than our own deadline, which gives the better answer. */
const hookSeconds = 60;

const denied = (reason: string): HookJSONOutput => ({
  hookSpecificOutput: {
    hookEventName: 'PreToolUse',
    permissionDecision: 'deny',
    permissionDecisionReason: reason,
  },
});
const allowed: HookJSONOutput = {
  hookSpecificOutput: { hookEventName: 'PreToolUse', permissionDecision: 'allow' },
};
const undecided = denied('This call could not be checked, so it was not made. Do not try it again.');
const stopped: HookJSONOutput = { continue: false, stopReason: 'The run was stopped.' };

/**
 * The hooks of a process. Claude Code lets a tool run when a hook throws or answers what it does not know, so every
 * hook goes through one wrapper that has an answer for that, and asks Claude Code to block should even that fail.
 */
export function createHooks(duties: HookDuties, deadlineMs = decisionMs): NonNullable<Options['hooks']> {
  const hook = (decide: (input: HookInput) => Promise<HookJSONOutput>, otherwise: HookJSONOutput) => {
    const callback: HookCallback = (input) => guarded(() => decide(input), otherwise, deadlineMs, duties.failed);
    return [{ hooks: [callback], timeout: hookSeconds, onFailure: 'block' as const }];
  };
  return {
    PreToolUse: hook((input) => beforeTool(duties, input), undecided),
    PostToolBatch: hook(async (input) => afterBatch(duties, input), stopped),
  };
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
  if (typeof id !== 'string' || id === '' || typeof toolInput !== 'object' || toolInput === null) {
    throw new Error(`the call of ${name} has no id or no input`);
  }
  return answerOf(await duties.toolCall({ id, name, input: toolInput as HookedCall['input'] }));
}

function answerOf(verdict: ToolVerdict): HookJSONOutput {
  if (verdict.behavior === 'allow') return allowed;
  if (verdict.behavior === 'deny' && typeof verdict.message === 'string') return denied(verdict.message);
  throw new Error('the verdict on a tool call is neither allow nor deny');
}

function afterBatch(duties: HookDuties, input: HookInput): HookJSONOutput {
  if (input.hook_event_name !== 'PostToolBatch') throw new Error(`a hook was called for ${input.hook_event_name}`);
  // With the answer taken Claude is done: there is no next model call to ask about.
  if (duties.structured && input.tool_calls.some(isTakenAnswer)) return {};
  return duties.batchEnded() === 'continue' ? {} : stopped;
}

function isTakenAnswer({ tool_name: name, tool_response: response }: PostToolBatchToolCall): boolean {
  return name === structuredOutputTool && response === 'Structured output provided successfully';
}
