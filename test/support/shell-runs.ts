import assert from 'node:assert/strict';
import type { Brain, Step } from '@sallyport/simulator';
import type { Grounds } from './canaries.ts';
import { makeProject, ran, strict } from './commands.ts';
import { play, type Played } from './played.ts';
import { masterKey, upstreamKey, userKey, type TestService } from './service.ts';
import { worked } from './shell.ts';

/** Commands that were run, and what came back for each. */
export interface Ran {
  readonly commands: readonly string[];
  readonly texts: readonly string[];
  readonly played: Played;
}

const perStep = 50;

/** Runs commands one after the other in a project, with every tool allowed. `more` is input of each call. */
export async function runAll(
  service: TestService,
  project: string,
  commands: readonly string[],
  more: object = {},
): Promise<Ran> {
  const tools = commands.map((command, index) => ({
    id: `c-${index}`,
    name: 'Bash',
    input: { command: `${command}\necho ran-in-$HOSTNAME`, ...more },
  }));
  const steps: Step[] = Array.from({ length: Math.ceil(tools.length / perStep) }, (_, step) => ({
    tools: tools.slice(step * perStep, (step + 1) * perStep),
  }));
  const brain: Brain = (_request, { call }) => steps[call] ?? { text: 'Done.' };
  const request = { ...strict, permission_mode: 'acceptEdits', project_path: project, timeout: 300 };
  const played = await play(service, brain, request);
  assert.equal(played.body['stop_reason'], 'end_turn', JSON.stringify(played.body));
  assert.equal(played.calls.length, steps.length + 1);
  return { commands, played, texts: commands.map((_, index) => played.returned(`c-${index}`).text) };
}

/** Fails unless all of the commands ran to their ends inside, and none of them did or told what it must not. */
export async function assertHeld(
  service: TestService,
  grounds: Grounds,
  project: string,
  { commands, texts, played }: Ran,
  secrets: readonly string[] = [],
): Promise<void> {
  const missing = (word: string) => commands.filter((_, index) => !texts[index]?.includes(word));
  assert.deepEqual(missing(ran), [], 'every command runs to its end, inside');
  assert.equal(
    missing(worked).length,
    commands.length,
    commands.filter((each) => !missing(worked).includes(each)).join('\n'),
  );
  grounds.assertNoneIn(JSON.stringify([played.body, texts]), 'what came back');
  for (const secret of [...secrets, upstreamKey, masterKey, userKey, service.simulator.url]) {
    assert.ok(!texts.some((text) => text.includes(secret)), secret);
  }
  await grounds.assertUntouched([project]);
  assert.equal((await fetch(`${service.url}/livez`)).status, 200);
}

/** A project with a file that commands may read. */
export const makeBaited = (service: TestService, name: string): Promise<string> =>
  makeProject(service, name, { 'bait.txt': 'bait-of-the-workspace\n', 'inner/in.txt': 'x\n' });
