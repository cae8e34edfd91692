import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SDKSystemMessage } from '@anthropic-ai/claude-agent-sdk';
import { permissionModes } from '@sallyport/protocol';
import type { Jail } from './jail.ts';
import { mismatchOf, sdkOptions, type ProcessPlan } from './options.ts';
import { order } from './runner-support.ts';

const jail = {
  root: '/workspace',
  env: { PATH: '/bin' },
  claudeExecutable: '/claude',
  sandbox: undefined,
} as unknown as Jail;
const plan = (profile: Partial<ProcessPlan['profile']> = {}): ProcessPlan => ({
  profile: order({ profile }).profile,
  session: 'session',
  resume: false,
  recovery: false,
  jail,
  token: 'token',
  sessionStore: { append: async () => {}, load: async () => null },
  hooks: {},
  canUseTool: async () => ({ behavior: 'deny', message: 'no' }),
  spawn: () => {
    throw new Error('not here');
  },
});

test('a process gets the environment of its jail, its token and our switches, and nothing of this machine', () => {
  const { env = {} } = sdkOptions(plan({ tools: ['Read'] }));
  const { PATH, ANTHROPIC_API_KEY, ANTHROPIC_SMALL_FAST_MODEL, ANTHROPIC_DEFAULT_HAIKU_MODEL, ...switches } = env;
  const { CLAUDE_CODE_ATTRIBUTION_HEADER: attribution, BUN_JSC_useFTLJIT: lastCompiler, ...rest } = switches;
  assert.deepEqual([attribution, lastCompiler], ['0', '0']);
  for (const [name, value] of Object.entries(rest)) {
    assert.match(name, /^(CLAUDE_CODE|DISABLE)_[A-Z_]+$/);
    assert.equal(value, '1', name);
  }
  assert.deepEqual([PATH, ANTHROPIC_API_KEY, rest['CLAUDE_CODE_MAX_RETRIES']], ['/bin', 'token', '1']);
  assert.deepEqual(
    [ANTHROPIC_SMALL_FAST_MODEL, ANTHROPIC_DEFAULT_HAIKU_MODEL],
    [plan().profile.model, plan().profile.model],
  );
});

test('what only concerns the engine of Claude Code is not inherited by commands', () => {
  const { env = {} } = sdkOptions(plan({ tools: ['Read', 'Bash'] }));
  assert.deepEqual(
    Object.keys(env).filter((name) => name.startsWith('BUN')),
    [],
  );
});

test('nothing that opens a way around our hooks is set', () => {
  for (const permissionMode of permissionModes) {
    const options = sdkOptions(plan({ permissionMode, tools: ['Read', 'Bash'] }));
    assert.deepEqual(
      [options.settingSources, options.strictMcpConfig, options.mcpServers, options.mcpServersDelivery, options.tools],
      [[], true, {}, 'initialize', ['Read', 'Bash']],
    );
    assert.equal(options.permissionMode, 'default', 'nothing is allowed by a mode');
    const opening = ['allowedTools', 'allowDangerouslySkipPermissions', 'additionalDirectories', 'settings', 'agents'];
    for (const name of opening) assert.ok(!(name in options), name);
  }
});

test('what the profile leaves open is not set, what it says is', () => {
  const bare = sdkOptions(plan());
  assert.ok(!('effort' in bare) && !('outputFormat' in bare) && !('sandbox' in bare));
  assert.deepEqual(bare.systemPrompt, { type: 'preset', preset: 'claude_code' });
  const full = sdkOptions(plan({ effort: 'low', systemPrompt: 'be brief', outputSchema: { type: 'object' } }));
  assert.deepEqual(
    [full.effort, full.systemPrompt, full.outputFormat],
    ['low', { ...bare.systemPrompt, append: 'be brief' }, { type: 'json_schema', schema: { type: 'object' } }],
  );
});

test('a process that says something else of itself is found out', () => {
  const { profile } = plan({ tools: ['Read', 'Bash'], permissionMode: 'askForEdits' });
  const asked = { profile, sdkSession: 'session' };
  const init = { tools: ['Bash', 'Read'], permissionMode: 'default', mcp_servers: [], session_id: 'session' };
  const said = (changes: object) =>
    mismatchOf({ ...init, ...changes } as unknown as SDKSystemMessage, asked.profile, asked.sdkSession);
  assert.equal(said({}), null);
  for (const changes of [
    { tools: ['Bash', 'Read', 'Task'] },
    { tools: ['Read'] },
    { permissionMode: 'bypassPermissions' },
    { mcp_servers: [{ name: 'x', status: 'connected' }] },
    { session_id: 'other' },
  ]) {
    assert.equal(typeof said(changes), 'string', JSON.stringify(changes));
  }
  const structured = { ...profile, outputSchema: {} };
  const withTool = { ...init, tools: ['Bash', 'Read', 'StructuredOutput'] } as unknown as SDKSystemMessage;
  assert.equal(mismatchOf(withTool, structured, asked.sdkSession), null);
});
