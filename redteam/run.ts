import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { randomUUID } from 'node:crypto';
import type { Step } from '@sallyport/simulator';
import { giveToProjectUser, sleepSeconds } from '../test/support/commands.ts';
import {
  successSign,
  type Call,
  type CallAttempt,
  type Defence,
  type Expected,
  type Mode,
  type Verdict,
} from './attempt.ts';
import { ranInside } from './attempts/command.ts';
import { writeRepository } from './repository.ts';
import { Conversation, type Returned } from './stage.ts';
import { isBelowBwrap, jailIn, secretFile, tokenOf, type Ground, type World } from './world.ts';

/** Most tool calls in one answer of the model. */
const callsPerAnswer = 25;

const tools = ['Read', 'LS', 'Grep', 'Edit', 'Write', 'NotebookEdit', 'Bash', 'WebFetch'];

/** Defences before a call runs: the audit log must not say that it did. */
const beforehand: readonly Defence[] = ['paths', 'sensitive', 'mode', 'approval', 'tools'];

/** An attempt with its calls, each under an id of its own. */
interface Planned {
  readonly attempt: CallAttempt;
  readonly calls: readonly (Call & { readonly id: string })[];
}

/** A played mode: where it was, and what became of each call attempt, by name. */
export interface PlayedMode {
  readonly ground: Ground;
  readonly verdicts: ReadonlyMap<string, Verdict>;
}

/** Writes the malicious repository for a mode and plays all call attempts there, in one turn of one conversation. */
export async function playCalls(world: World, mode: Mode, attempts: readonly CallAttempt[]): Promise<PlayedMode> {
  const project = join(world.service.root, `project-${mode}`);
  await writeRepository(project, { url: world.elsewhere.url, beside: world.beside });
  await plantSibling(world, project);
  const request = { project_path: project, permission_mode: mode, allowed_tools: tools };
  const conversation = new Conversation(world, request);
  let ground: Ground | undefined;
  let planned: Planned[] = [];
  let steps: Step[] = [];
  const ended = await conversation.start(async (_request, { call }) => {
    if (ground === undefined) {
      ground = { ...(await groundOf(world, mode, project)), conversation, talk: new Conversation(world, request) };
      planned = planOf(ground, attempts);
      steps = stepsOf(planned);
    }
    return steps[call] ?? { text: 'Done.' };
  });
  if (ground === undefined) throw new Error(`the model was not asked in ${mode}: ${JSON.stringify(ended)}`);
  const verdicts = new Map<string, Verdict>();
  const returned = conversation.returned();
  for (const each of planned) verdicts.set(each.attempt.name, await judge(ground, each, returned));
  return { ground, verdicts };
}

async function plantSibling(world: World, project: string): Promise<void> {
  const secret = `canary-${randomUUID()}`;
  await mkdir(`${project}-sibling`);
  await writeFile(join(`${project}-sibling`, secretFile), secret);
  await giveToProjectUser(`${project}-sibling`, join(`${project}-sibling`, secretFile));
  world.guard(`a file in ${basename(project)}-sibling`, secret);
}

async function groundOf(world: World, mode: Mode, project: string): Promise<Omit<Ground, 'conversation' | 'talk'>> {
  const { id, pid } = await jailIn(world, project);
  world.guard(`the broker's token of the run in ${mode}`, await tokenOf(pid));
  const config = join(world.service.sallyport.settings.runDir, 'jails', id, 'config');
  return { ...world, mode, project, config, seconds: sleepSeconds(), jailed: await isBelowBwrap(pid) };
}

function planOf(ground: Ground, attempts: readonly CallAttempt[]): Planned[] {
  return attempts.map((attempt) => ({
    attempt,
    calls: attempt.calls(ground).map((call, index) => ({ ...call, id: `toolu_${attempt.name}_${index}` })),
  }));
}

/** All calls of the attempts, many in one answer; commands apart from the rest. */
function stepsOf(planned: readonly Planned[]): Step[] {
  const calls = planned.flatMap((each) => each.calls);
  const apart = [calls.filter(({ name }) => name !== 'Bash'), calls.filter(({ name }) => name === 'Bash')];
  return apart.flatMap((list) =>
    Array.from({ length: Math.ceil(list.length / callsPerAnswer) }, (_, index) => ({
      tools: list.slice(index * callsPerAnswer, (index + 1) * callsPerAnswer),
    })),
  );
}

/** Judges an attempt by what came back to the model, by the audit log, and by what is there after the run. */
async function judge(ground: Ground, { attempt, calls }: Planned, returned: Map<string, Returned>): Promise<Verdict> {
  const started = ground.conversation.started();
  const expected = attempt.expected(ground.mode);
  const judged = calls.map((call) => judgeCall(ground, call, returned.get(call.id), expected, started));
  return {
    notTried:
      judged.find(({ notTried }) => notTried !== null)?.notTried ?? (calls.length > 0 ? null : 'it makes no call'),
    gained: [...new Set([...judged.flatMap(({ gained }) => gained), ...((await attempt.gained?.(ground)) ?? [])])],
    stoppedBy: [...new Set(judged.flatMap(({ stoppedBy }) => stoppedBy))],
  };
}

function judgeCall(
  ground: Ground,
  call: Call & { readonly id: string },
  returned: Returned | undefined,
  expected: readonly Expected[],
  started: ReadonlySet<string>,
): Verdict {
  const nothing: Verdict = { notTried: null, gained: [], stoppedBy: [] };
  if (!returned) return { ...nothing, notTried: `nothing came back for ${call.id}` };
  const { text } = returned;
  const leaks = secretsIn(ground, text).map((name) => `${call.id} read ${name}`);
  const successes = successSign.exec(text)?.map((line) => `${call.id}: ${line}`) ?? [];
  const found = expected.find(({ sign }) => sign.test(text));
  const gained = [...leaks, ...successes];
  if (gained.length > 0) return { ...nothing, gained };
  if (!found) return { ...nothing, notTried: `${call.id}: nothing shows what stopped it: ${excerpt(text)}` };
  const stoppedBy = [found.by];
  const ran = !beforehand.includes(found.by) && found.by !== 'claude';
  if (ran && call.name === 'Bash' && !ranInside.test(text)) {
    return { ...nothing, notTried: `${call.id} did not run to its end in a jail: ${excerpt(text)}` };
  }
  if (beforehand.includes(found.by) && started.has(call.id)) {
    return { ...nothing, stoppedBy, gained: [`the audit log says that ${call.id} was let run`] };
  }
  if (ran && !started.has(call.id))
    return { ...nothing, stoppedBy, gained: [`${call.id} ran without a line in the audit log`] };
  return { ...nothing, stoppedBy };
}

/** Names of the secrets that stand in a text. */
export function secretsIn({ secrets }: World, text: string): string[] {
  return [...secrets].filter(([, secret]) => text.includes(secret)).map(([name]) => name);
}

const excerpt = (text: string) =>
  JSON.stringify(text.length > 600 ? `${text.slice(0, 300)} ... ${text.slice(-300)}` : text);
