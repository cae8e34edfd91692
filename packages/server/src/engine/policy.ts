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
import { isWithin, type Place } from './workspaces.ts';

/** What of the service's configuration decides what a run may do. */
export interface PolicySettings {
  readonly models: readonly string[];
  readonly defaultModel: string;
  /** True: tools that reach beyond the workspace may run unasked, because a jail holds them or the operator said so. */
  readonly openToolsUnasked: boolean;
}

/** The models a key may use, of those the service offers; and the one it gets when it names none. */
export function modelsOf({ narrowing }: Pick<Principal, 'narrowing'>, settings: PolicySettings) {
  const { models, defaultModel } = settings;
  const allowed = models.filter((model) => narrowing?.models?.includes(model) ?? true);
  return { models: allowed, default: allowed.includes(defaultModel) ? defaultModel : (allowed[0] ?? null) };
}

/** The directories a key may have projects in: of several that hold each other, the inner ones. */
export function rootsOf({ narrowing }: Pick<Principal, 'narrowing'>, roots: readonly string[]): readonly string[] {
  const own = narrowing?.workspaceRoots ?? null;
  if (own === null) return roots;
  return roots.flatMap((root) => [
    ...own.filter((path) => isWithin(root, path)),
    ...(own.some((path) => isWithin(path, root)) ? [root] : []),
  ]);
}

/**
 * What the run may be: the request within what the key and the service allow. Throws `model_not_allowed`,
 * `mode_not_allowed` or `tool_not_allowed`. `projectPath` must already be a real path inside an allowed root.
 */
export function decideProfile(
  principal: Principal,
  request: QueryRequest,
  projectPath: string | null,
  settings: PolicySettings,
): Profile {
  const { permission_mode: permissionMode, allowed_tools: named } = request;
  const { models, default: usual } = modelsOf(principal, settings);
  const model = request.model ?? usual;
  if (model === null || !models.includes(model)) throw new SallyportError('model_not_allowed');
  // Tools that are named are refused, those of the mode are left out.
  const tools = named ?? defaultTools(permissionMode).filter((tool) => mayHave(principal, tool));
  const profile: Profile = {
    tenant: principal.tenant,
    projectPath,
    access: accessFor(permissionMode, tools),
    permissionMode,
    tools,
    model,
    effort: request.effort ?? null,
    systemPrompt: request.system_prompt ? request.system_prompt : null,
    outputSchema: request.output_schema ?? null,
  };
  checkProfile(principal, profile, settings);
  return profile;
}

/** What a query gets that asks for nothing in particular. */
export function usualShape(model: string): Pick<Profile, 'access' | 'tools' | 'model'> {
  const mode = 'askForEdits';
  const tools = defaultTools(mode);
  return { access: accessFor(mode, tools), tools, model };
}

const mayHave = ({ narrowing }: Pick<Principal, 'narrowing'>, tool: ToolName): boolean =>
  narrowing?.tools?.includes(tool) ?? true;

/**
 * Refuses a profile that is more than the key may have, as it is now: `model_not_allowed`, `mode_not_allowed` or
 * `tool_not_allowed`.
 */
export function checkProfile(
  principal: Pick<Principal, 'narrowing'>,
  { model, permissionMode, tools }: Profile,
  settings: PolicySettings,
): void {
  if (!modelsOf(principal, settings).models.includes(model)) throw new SallyportError('model_not_allowed');
  const modes = principal.narrowing?.permissionModes ?? null;
  if (modes !== null && !modes.includes(permissionMode)) throw new SallyportError('mode_not_allowed');
  const refused = tools.find((tool) => !mayHave(principal, tool));
  if (refused !== undefined) {
    throw new SallyportError('tool_not_allowed', { detail: `This key may not use the tool ${refused}.` });
  }
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
  /** Where the paths it names lead: the worst of them. */
  readonly place: Place;
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
