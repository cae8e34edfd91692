import {
  defaultTools,
  isEditTool,
  isReadTool,
  questionTool,
  type PermissionMode,
  type QueryRequest,
  type ToolName,
} from '@sallyport/protocol';
import { SallyportError } from './errors.ts';
import type { Profile } from './ports.ts';
import type { Principal } from './principal.ts';

/** What of the service's configuration decides what a run may do. */
export interface PolicySettings {
  readonly models: readonly string[];
  readonly defaultModel: string;
  /** True: tools that reach beyond the workspace may run unasked, because a jail holds them or the operator said so. */
  readonly openToolsUnasked: boolean;
}

/**
 * What the run may be: the request within what the key and the service allow.
 * Throws `model_not_allowed`. `projectPath` must already be a real path inside an allowed root.
 */
export function decideProfile(
  principal: Principal,
  request: QueryRequest,
  projectPath: string | null,
  settings: PolicySettings,
): Profile {
  const model = request.model ?? settings.defaultModel;
  if (!settings.models.includes(model)) throw new SallyportError('model_not_allowed');
  const tools = request.allowed_tools ?? defaultTools(request.permission_mode);
  return {
    tenant: principal.tenant,
    projectPath,
    access: accessFor(request.permission_mode, tools),
    permissionMode: request.permission_mode,
    tools,
    model,
    effort: request.effort ?? null,
    systemPrompt: request.system_prompt ? request.system_prompt : null,
    outputSchema: request.output_schema ?? null,
  };
}

/** A workspace is writable only for a run that has a tool which may write. */
function accessFor(mode: PermissionMode, tools: readonly ToolName[]): 'ro' | 'rw' {
  return mode !== 'readOnly' && tools.some((tool) => isEditTool(tool) || tool === 'Bash') ? 'rw' : 'ro';
}

/** What the policy says to a tool call, and the rule that said it. */
export type Decision =
  | { readonly decision: 'allow'; readonly rule: string }
  | { readonly decision: 'ask' | 'deny'; readonly rule: string; readonly reason: string };

/** A tool call as the policy sees it. */
export interface ToolRequest {
  readonly name: string;
  /** `inside`: every path it names stays in the workspace. `sensitive`: inside, but of a file that can make programs run. */
  readonly place: 'inside' | 'sensitive' | 'outside';
}

const deny = (rule: string, reason: string): Decision => ({ decision: 'deny', rule, reason });
const ask = (rule: string, reason: string): Decision => ({ decision: 'ask', rule, reason });

/** Decides one tool call. Whatever is not expressly allowed is asked or denied. */
export function decideTool(profile: Profile, settings: PolicySettings, call: ToolRequest): Decision {
  const tool = profile.tools.find((name) => name === call.name);
  if (!tool) return deny('tools', `${call.name} is not among the tools of this run.`);
  if (call.place === 'outside') return deny('workspace', 'The path is outside the workspace.');
  const rule = `mode:${profile.permissionMode}`;
  if (isReadTool(tool)) return { decision: 'allow', rule };
  if (tool === questionTool) return ask('question', 'Claude asks a question.');
  if (profile.permissionMode === 'readOnly') return deny(rule, 'This run may only read.');
  if (call.place === 'sensitive') {
    return deny(
      'sensitive',
      'Files that configure programs (.git, .claude and the like) cannot be changed in this run.',
    );
  }
  if (profile.permissionMode === 'askForEdits') return ask(rule, `${tool} needs the approval of a human.`);
  if (isEditTool(tool) || settings.openToolsUnasked) return { decision: 'allow', rule };
  const reason = `${tool} may not run unasked, because Claude Code is not in a jail here.`;
  return profile.permissionMode === 'strict' ? deny(rule, reason) : ask(rule, reason);
}
