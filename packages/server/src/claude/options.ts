import type {
  CanUseTool,
  Options,
  PermissionMode as SdkMode,
  Query,
  SDKSystemMessage,
  SessionStore,
} from '@anthropic-ai/claude-agent-sdk';
import type { Profile } from '../engine/ports.ts';
import type { Jail } from './jail.ts';

/** What the options of one process are made of. */
export interface ProcessPlan {
  readonly profile: Profile;
  /** A UUID. To begin a session it must be new: Claude Code refuses one it already has. */
  readonly session: string;
  /** True: the session is continued. Its transcript is put in its place while the session store is asked for it. */
  readonly resume: boolean;
  /** True: the turn that the transcript leaves open is gone on with by itself. */
  readonly recovery: boolean;
  readonly jail: Jail;
  /** The broker's token, all that the process holds of a credential. */
  readonly token: string;
  readonly sessionStore: SessionStore;
  readonly hooks: NonNullable<Options['hooks']>;
  readonly canUseTool: CanUseTool;
  readonly spawn: NonNullable<Options['spawnClaudeCodeProcess']>;
}

/** What Claude Code calls the tool through which it gives a structured answer. */
export const structuredOutputTool = 'StructuredOutput';

/**
 * Claude Code's own mode, whatever the run's is: our hook answers every call, and the mode only decides about what the
 * hook is not asked about. This one asks most of all, and what it asks comes to us; others allow edits by themselves or
 * refuse what a human is to decide.
 */
export const mode: SdkMode = 'default';

/** The settings that make a process begin its session with an effort. */
export const effortSetting = (effort: NonNullable<Profile['effort']>): Parameters<Query['applyFlagSettings']>[0] => ({
  effortLevel: effort,
});

const switches = {
  /** For a cut stream only; all other retries are the broker's. */
  CLAUDE_CODE_MAX_RETRIES: '1',
  CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: '1',
  /** Else what one conversation noted is read by all later ones of the same directory. */
  CLAUDE_CODE_DISABLE_AUTO_MEMORY: '1',
  /** Else one message can have a second result later. */
  CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
  /** A fingerprint of the first message, before all else that the model is sent: it would tell cleared processes apart. */
  CLAUDE_CODE_ATTRIBUTION_HEADER: '0',
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
  DISABLE_TELEMETRY: '1',
  DISABLE_ERROR_REPORTING: '1',
  DISABLE_AUTOUPDATER: '1',
} as const;

/**
 * Leaves out the last compiler of Claude Code's own engine: it takes a tenth of all that a short turn costs, and a process
 * of short turns gets none of it back. Not where commands are run, which would inherit it.
 */
const engineSwitches = (tools: Profile['tools']) => (tools.includes('Bash') ? {} : { BUN_JSC_useFTLJIT: '0' });

/** Small jobs of its own, such as reading a fetched page, go to the run's model: the broker passes no other. */
const sideModels = (model: string) => ({ ANTHROPIC_SMALL_FAST_MODEL: model, ANTHROPIC_DEFAULT_HAIKU_MODEL: model });

/** The SDK's options of a process. Nothing is left to a default that could read the workspace's or this machine's settings. */
export function sdkOptions({
  profile,
  session,
  resume,
  recovery,
  jail,
  token,
  sessionStore,
  hooks,
  canUseTool,
  spawn,
}: ProcessPlan): Options {
  return {
    cwd: jail.root,
    env: {
      ...jail.env,
      ...switches,
      ...engineSwitches(profile.tools),
      ...(recovery ? { CLAUDE_CODE_RESUME_INTERRUPTED_TURN: '1' } : {}),
      ...sideModels(profile.model),
      ANTHROPIC_API_KEY: token,
    },
    pathToClaudeCodeExecutable: jail.claudeExecutable,
    spawnClaudeCodeProcess: spawn,
    settingSources: [],
    strictMcpConfig: true,
    mcpServers: {},
    mcpServersDelivery: 'initialize',
    tools: [...profile.tools],
    permissionMode: mode,
    hooks,
    canUseTool,
    includePartialMessages: true,
    ...(resume ? { resume: session } : { sessionId: session }),
    sessionStore,
    sessionStoreFlush: 'eager',
    model: profile.model,
    systemPrompt: {
      type: 'preset',
      preset: 'claude_code',
      ...(profile.systemPrompt === null ? {} : { append: profile.systemPrompt }),
    },
    ...(profile.effort === null ? {} : { effort: profile.effort }),
    ...(profile.outputSchema === null
      ? {}
      : { outputFormat: { type: 'json_schema', schema: { ...profile.outputSchema } } }),
    ...(jail.sandbox === undefined ? {} : { sandbox: jail.sandbox }),
  };
}

/** What is wrong with a process that says this of itself, or null when it is of that profile and in that session. */
export function mismatchOf(init: SDKSystemMessage, profile: Profile, session: string): string | null {
  const wanted = [...profile.tools, ...(profile.outputSchema === null ? [] : [structuredOutputTool])];
  const tools = wanted.toSorted().join(' ');
  if (init.tools.toSorted().join(' ') !== tools) return `tools are ${init.tools.join(' ')}, not ${tools}`;
  if (init.permissionMode !== mode) return `permission mode is ${init.permissionMode}, not ${mode}`;
  if (init.mcp_servers.length > 0) return `there are ${init.mcp_servers.length} MCP servers`;
  if (init.session_id !== session) return 'the session has another id';
  return null;
}
