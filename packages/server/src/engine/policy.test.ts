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
import { decideProfile, decideTool, type PolicySettings } from './policy.ts';
import type { Principal } from './principal.ts';

const principal: Principal = { tenant: 't', key: 'k', role: 'user' };
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
