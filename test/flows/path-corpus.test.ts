import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { permissionModes, type PermissionMode } from '@sallyport/protocol';
import type { Brain, Step } from '@sallyport/simulator';
import { onGrounds, planted, type Grounds } from '../support/canaries.ts';
import { leftOut } from '../support/needs.ts';
import {
  hostilePaths,
  insideFiles,
  layTraps,
  longPaths,
  slotBeside,
  trappedProject,
  type HostilePath,
  type Start,
} from '../support/paths.ts';
import { play, type Played } from '../support/played.ts';
import type { TestService } from '../support/service.ts';

type Input = Readonly<Record<string, unknown>>;

/** Every tool that takes a path, with the inputs in which it takes one. */
const tools: Readonly<Record<string, readonly ((path: HostilePath) => Input)[]>> = {
  Read: [({ file }) => ({ file_path: file }), ({ directory }) => ({ file_path: directory })],
  Edit: [
    ({ fresh }) => ({ file_path: fresh, old_string: '', new_string: planted }),
    ({ file }) => ({ file_path: file, old_string: 'canary', new_string: planted }),
  ],
  Write: [
    ({ fresh }) => ({ file_path: fresh, content: planted }),
    ({ file }) => ({ file_path: file, content: planted }),
  ],
  NotebookEdit: [({ notebook }) => ({ notebook_path: notebook, cell_id: 'c1', new_source: planted })],
  Glob: [
    ({ directory }) => ({ pattern: '**/*', path: directory }),
    ({ directory }) => ({ pattern: `${directory}/*` }),
    ({ file }) => ({ pattern: file }),
  ],
  Grep: [
    ({ directory }) => ({ pattern: '.', output_mode: 'content', path: directory }),
    ({ file }) => ({ pattern: '.', output_mode: 'content', path: file }),
    ({ directory }) => ({ pattern: '.', output_mode: 'content', glob: `${directory}/*` }),
  ],
};
/** As clients name them: `LS` is the older name of one. */
const toolNames = ['Read', 'Edit', 'Write', 'NotebookEdit', 'LS', 'Grep'];

interface Call {
  readonly id: string;
  readonly name: string;
  readonly input: Input;
  readonly of: HostilePath;
}

/** Calls with a path; of the inputs that a tool has, the one whose turn it is. */
const callsWith = (of: HostilePath, names: readonly string[], turn: number, id: string): Call[] =>
  names.map((name) => {
    const inputs = tools[name] ?? [];
    return { id: `${id}-${name}`, name, of, input: inputs[turn % inputs.length]?.(of) ?? {} };
  });

/** Some of the tools, others for the next path. */
const someTools = (first: number, offsets: readonly number[]): string[] => {
  const names = Object.keys(tools);
  return offsets.map((offset) => names[(first + offset) % names.length] ?? '');
};

const stepsOf = (calls: readonly Call[], perStep: number): Step[] =>
  Array.from({ length: Math.ceil(calls.length / perStep) }, (_, step) => ({
    tools: calls.slice(step * perStep, (step + 1) * perStep).map(({ id, name, input }) => ({ id, name, input })),
  }));

const told = (calls: readonly Call[], played: Played) =>
  calls.map(
    ({ id, input }) => `${id} ${JSON.stringify(input).slice(0, 200)}: ${played.returned(id).text.slice(0, 200)}`,
  );

let service: TestService;
let grounds: Grounds;

/** Fails unless every call came back, those that lead out with an error, and nothing outside was read or changed. */
async function assertKeptIn(played: Played, calls: readonly Call[], workspace: string): Promise<void> {
  assert.equal(played.body['stop_reason'], 'end_turn', JSON.stringify(played.body));
  assert.match(played.returned('control').text, /deep\.txt:.*inside-of-it/u);
  const leaking = calls.filter(({ id }) => played.returned(id).text.includes(grounds.canary));
  assert.deepEqual(told(leaking, played), []);
  // A pattern may name what is not there: that is no failure.
  const isPattern = ({ input }: Call) => 'glob' in input || (!('path' in input) && 'pattern' in input);
  const done = calls.filter((call) => call.of.leaves && !isPattern(call) && !played.returned(call.id).isError);
  assert.deepEqual(told(done, played), []);
  grounds.assertNoneIn(JSON.stringify(played.body), 'the answer');
  await grounds.assertUntouched([workspace]);
}

const control: Step = { tools: [{ id: 'control', name: 'Grep', input: { pattern: '.', output_mode: 'content' } }] };

/** A run in a project in which these calls are made. */
async function playInProject(mode: PermissionMode, project: string, calls: readonly Call[]): Promise<Played> {
  const steps = [control, ...stepsOf(calls, 150)];
  const brain: Brain = (_request, { call }) => steps[call] ?? { text: 'Done.' };
  return await play(service, brain, request(mode, { project_path: project }));
}

/** A run in a slot, into which the traps are put as soon as it is there. */
async function playInSlot(mode: PermissionMode, calls: readonly Call[]): Promise<Played> {
  const before = service.sallyport.processes().map(({ id }) => id);
  const steps = [control, ...stepsOf(calls, 150)];
  const brain: Brain = async (_request, { call }) => {
    const disk = slotBeside(service, before);
    if (call === 0) await layTraps({ at: '/workspace', disk, outsides: grounds.outsides });
    return steps[call] ?? { text: 'Done.' };
  };
  const files = Object.entries(insideFiles).map(([path, content]) => ({ path, content }));
  return await play(service, brain, request(mode, { files }));
}

const request = (mode: PermissionMode, more: object) => ({
  permission_mode: mode,
  allowed_tools: toolNames,
  max_turns: 10,
  timeout: 300,
  ...more,
});

describe('paths that lead out of a workspace', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  onGrounds((made) => ({ service, grounds } = made));

  async function trapped(name: string): Promise<Start> {
    const start = await trappedProject(service, grounds, name);
    // The traps do lead there, and so do the paths.
    const followed = ['a chain of links', 'a link to a file of run', 'dots', 'own root', 'descriptors'];
    for (const path of hostilePaths(start).filter((each) => followed.includes(each.name)))
      assert.ok((await readFile(path.file, 'utf8')).includes(grounds.canary), path.name);
    return start;
  }

  test('lead nowhere through any tool in a project', async () => {
    const start = await trapped('project');
    const calls = hostilePaths(start).flatMap((of, index) =>
      callsWith(of, someTools(index, [0, 2, 4]), index, `${index}`),
    );
    const played = await playInProject('acceptEdits', start.at, calls);
    await assertKeptIn(played, calls, start.at);
  });

  for (const [turn, mode] of permissionModes.entries()) {
    test(`lead nowhere from a slot in ${mode}`, async () => {
      const start: Start = { at: '/workspace', disk: '/nowhere', outsides: grounds.outsides };
      // Over the modes every path meets every tool.
      const calls = hostilePaths(start).flatMap((of, index) =>
        callsWith(of, someTools(index + turn, [0, 3]), Math.floor(index / 6), `${index}`),
      );
      const played = await playInSlot(mode, calls);
      await assertKeptIn(played, calls, '/nowhere');
    });
  }

  test('that are longer than any can be are refused, and the run goes on', async () => {
    const start = await trapped('long');
    const calls = longPaths(start).flatMap((of, index) => callsWith(of, Object.keys(tools), 0, `${index}`));
    const played = await playInProject('acceptEdits', start.at, calls);
    await assertKeptIn(played, calls, start.at);
  });
});
