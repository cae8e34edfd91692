import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  defaultBounds,
  isEditTool,
  isReadTool,
  permissionModes,
  queryRequest,
  questionTool,
  toolNames,
  type PermissionMode,
  type QueryRequest,
} from '@sallyport/protocol';
import { SallyportError } from './errors.ts';
import { unnarrowed } from './narrowing.ts';
import { checkProfile, decideProfile, decideTool, modelsOf, rootsOf, type PolicySettings } from './policy.ts';
import type { Narrowing } from './ports.ts';
import type { Principal } from './principal.ts';

const principal: Principal = {
  tenant: 't',
  key: 'k',
  secretHash: null,
  role: 'user',
  narrowing: null,
  expiresAt: null,
};
const settings = (openToolsUnasked: boolean): PolicySettings => ({
  models: ['m1', 'm2'],
  defaultModel: 'm1',
  openToolsUnasked,
});
const request = (fields: object): QueryRequest => queryRequest(defaultBounds).parse({ prompt: 'p', ...fields });
const profile = (fields: object) => decideProfile(principal, request(fields), null, settings(true));

test('a model that is not offered is refused', () => {
  assert.throws(
    () => profile({ model: 'm3' }),
    (error) => error instanceof SallyportError && error.code === 'model_not_allowed',
  );
  assert.equal(profile({}).model, 'm1');
  assert.equal(profile({ model: 'm2' }).model, 'm2');
});

test('an empty list of tools is no tools, and none named is the default of the mode', () => {
  assert.deepEqual(profile({ allowed_tools: [] }).tools, []);
  assert.deepEqual(profile({ permission_mode: 'readOnly' }).tools, ['Read', 'Grep', 'Glob']);
  assert.deepEqual(profile({ permission_mode: 'acceptEdits' }).tools, ['Read', 'Grep', 'Glob', 'Edit', 'Write']);
  assert.deepEqual(profile({ allowed_tools: ['LS', 'Glob'] }).tools, ['Glob']);
});

test('the workspace is writable only for a run that may write', () => {
  assert.equal(profile({ permission_mode: 'readOnly', allowed_tools: ['Edit', 'Bash'] }).access, 'ro');
  assert.equal(profile({ permission_mode: 'acceptEdits', allowed_tools: ['Read', 'WebFetch'] }).access, 'ro');
  assert.equal(profile({ permission_mode: 'strict', allowed_tools: ['Bash'] }).access, 'rw');
  assert.equal(profile({ permission_mode: 'askForEdits' }).access, 'rw');
});

const anyCall = fc.record({
  mode: fc.constantFrom(...permissionModes),
  allowed: fc.uniqueArray(fc.constantFrom(...toolNames)),
  name: fc.oneof(fc.constantFrom(...toolNames), fc.constantFrom('Task', 'Agent', 'SendMessage', '__proto__', '')),
  place: fc.constantFrom('inside' as const, 'sensitive' as const, 'outside' as const),
  unasked: fc.boolean(),
});

test('whatever runs unasked is in the set of tools, inside the workspace, and allowed by its mode', () => {
  const mayRun: Record<PermissionMode, (name: string, unasked: boolean) => boolean> = {
    readOnly: (name) => isReadTool(name),
    askForEdits: (name) => isReadTool(name),
    acceptEdits: (name, unasked) => isReadTool(name) || isEditTool(name) || unasked,
    strict: (name, unasked) => isReadTool(name) || isEditTool(name) || unasked,
  };
  fc.assert(
    fc.property(anyCall, ({ mode, allowed, name, place, unasked }) => {
      const run = profile({ permission_mode: mode, allowed_tools: allowed });
      const { decision } = decideTool(run, settings(unasked), { name, place });
      const allowable =
        (allowed as string[]).includes(name) &&
        name !== questionTool &&
        place !== 'outside' &&
        (place === 'inside' || isReadTool(name)) &&
        mayRun[mode](name, unasked);
      assert.equal(decision === 'allow', allowable);
    }),
    { numRuns: 2000 },
  );
});

const narrowed = (narrowing: Partial<Narrowing>): Principal => ({
  ...principal,
  narrowing: { ...unnarrowed, ...narrowing },
});
const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return SallyportError.from(error).code;
  }
  return 'none';
};

test('a narrowed key gets the first of its models when it names none, and no other', () => {
  const key = narrowed({ models: ['m2', 'm9'] });
  assert.deepEqual(modelsOf(key, settings(true)), { models: ['m2'], default: 'm2' });
  assert.equal(decideProfile(key, request({}), null, settings(true)).model, 'm2');
  for (const model of ['m1', 'm9']) {
    assert.equal(
      codeOf(() => decideProfile(key, request({ model }), null, settings(true))),
      'model_not_allowed',
    );
  }
  const none = narrowed({ models: ['m9'] });
  assert.deepEqual(modelsOf(none, settings(true)), { models: [], default: null });
  assert.equal(
    codeOf(() => decideProfile(none, request({}), null, settings(true))),
    'model_not_allowed',
  );
});

test('a narrowed key is refused the modes and tools it may not have, and gets those of the mode that it may', () => {
  const key = narrowed({ permissionModes: ['acceptEdits'], tools: ['Read', 'Bash'] });
  const decide = (fields: object) => decideProfile(key, request(fields), null, settings(true));
  assert.deepEqual(decide({ permission_mode: 'acceptEdits' }).tools, ['Read']);
  assert.deepEqual(decide({ permission_mode: 'acceptEdits', allowed_tools: ['Bash'] }).tools, ['Bash']);
  assert.equal(
    codeOf(() => decide({})),
    'mode_not_allowed',
  );
  assert.equal(
    codeOf(() => decide({ permission_mode: 'readOnly', allowed_tools: [] })),
    'mode_not_allowed',
  );
  assert.throws(() => decide({ permission_mode: 'acceptEdits', allowed_tools: ['Read', 'Edit'] }), {
    code: 'tool_not_allowed',
    detail: 'This key may not use the tool Edit.',
  });
  const toolless = narrowed({ tools: [] });
  assert.deepEqual(decideProfile(toolless, request({}), null, settings(true)).tools, []);
});

test('a conversation goes on only with a key that may have its profile', () => {
  const profile = decideProfile(principal, request({ permission_mode: 'acceptEdits' }), null, settings(true));
  const code = (narrowing: Partial<Narrowing>) =>
    codeOf(() => checkProfile(narrowed(narrowing), profile, settings(true)));
  assert.equal(code({}), 'none');
  assert.equal(code({ permissionModes: ['acceptEdits'], tools: [...profile.tools], models: ['m1'] }), 'none');
  assert.equal(code({ permissionModes: ['readOnly'] }), 'mode_not_allowed');
  assert.equal(code({ tools: ['Read'] }), 'tool_not_allowed');
  assert.equal(code({ models: ['m2'] }), 'model_not_allowed');
});

test('a narrowed key has projects only where both it and the service allow them', () => {
  const roots = (own: string[] | null) => rootsOf(narrowed({ workspaceRoots: own }), ['/srv/a', '/srv/b']);
  assert.deepEqual(roots(null), ['/srv/a', '/srv/b']);
  assert.deepEqual(roots([]), []);
  assert.deepEqual(roots(['/srv/a/x', '/srv/ab', '/etc']), ['/srv/a/x']);
  assert.deepEqual(roots(['/srv']), ['/srv/a', '/srv/b']);
  assert.deepEqual(roots(['/']), ['/srv/a', '/srv/b']);
});
