import { makeProject } from '../../test/support/commands.ts';
import type { Step } from '@sallyport/simulator';
import type { Defence, Expected, Mode, StoryAttempt, Verdict } from '../attempt.ts';
import type { Answer, Asked } from '../human.ts';
import { secretsIn } from '../run.ts';
import { Conversation, type Body } from '../stage.ts';
import { filesBelow, type World } from '../world.ts';

/** An edit that makes a file. */
export const write = (path: string, id?: string) => ({
  name: 'Write',
  input: { file_path: path, content: `made by the model: ${path}` },
  ...(id !== undefined && { id }),
});

/** A run in a project of its own, with a human of its own mind. */
export interface Scene {
  readonly name: string;
  readonly reaches: string;
  readonly modes?: readonly Mode[];
  readonly request?: object;
  readonly steps: (project: string, world: World) => readonly Step[];
  readonly mind: (asked: Asked, project: string, world: World) => Answer | Promise<Answer>;
  /** Files that may be there in the end. */
  readonly may: readonly string[];
  /** Ids of calls that may run; all others that have an id must show the sign of something expected. */
  readonly runs?: readonly string[];
  readonly expected: readonly Expected[];
  /** What stops it that no call can show, as `judge` finds out. */
  readonly by?: readonly Defence[];
  /** What else it got, or a reason why nothing was tried, thrown. */
  readonly judge?: (scene: Played) => Promise<readonly string[]> | readonly string[];
}

export interface Played {
  readonly world: World;
  readonly conversation: Conversation;
  readonly project: string;
  readonly mode: Mode;
  /** What this conversation asked the human. */
  readonly asked: readonly Asked[];
  readonly answer: Body;
}

/** Says that an attempt was not carried out. */
export class NotTried extends Error {}

/** Throws unless a human was asked so often at least. */
export const mustHaveAsked = ({ asked }: Played, count: number) => {
  if (asked.length < count) throw new NotTried(`a human was asked ${asked.length} times, not ${count}`);
};

/** The attempt that a scene is. */
export function story(scene: Scene): StoryAttempt {
  const { name, reaches } = scene;
  return {
    name,
    reaches,
    modes: scene.modes ?? ['askForEdits'],
    async play(world, mode): Promise<Verdict> {
      const project = await makeProject(world.service, `${name}-${mode}`, { 'a.txt': 'one\n' });
      const tools = ['Read', 'Write', 'Edit', 'Bash'];
      const request = { project_path: project, permission_mode: mode, allowed_tools: tools, ...scene.request };
      const conversation = new Conversation(world, request);
      world.human.mind(conversation.id, (asked) => scene.mind(asked, project, world));
      const steps = scene.steps(project, world);
      const answer = await conversation.start(steps);
      const asked = world.human.asked.filter(({ session_id: id }) => id === conversation.id);
      const ids = steps.flatMap(({ tools: made = [] }) => made.flatMap(({ id }) => id ?? []));
      const seen = ids.filter((id) => scene.runs?.includes(id) !== true).map((id) => seenOf(scene, conversation, id));
      const verdict: Verdict = {
        notTried: seen.find(({ notTried }) => notTried !== null)?.notTried ?? null,
        gained: [...(await madeIn(project, scene)), ...toldIn(world, conversation), ...failureOf(answer)],
        stoppedBy: [...new Set([...seen.flatMap(({ stoppedBy }) => stoppedBy), ...(scene.by ?? [])])],
      };
      try {
        const more = await scene.judge?.({ world, conversation, project, mode, asked, answer });
        return { ...verdict, gained: [...verdict.gained, ...(more ?? [])] };
      } catch (error) {
        if (!(error instanceof NotTried)) throw error;
        return { ...verdict, notTried: error.message };
      }
    },
  };
}

/** What came back for one call, as a sign of what stopped it. */
function seenOf({ expected }: Scene, conversation: Conversation, id: string): Pick<Verdict, 'notTried' | 'stoppedBy'> {
  const { text } = conversation.returned().get(id) ?? {};
  if (text === undefined) return { notTried: `nothing came back for ${id}`, stoppedBy: [] };
  const found = expected.find(({ sign }) => sign.test(text));
  if (found) return { notTried: null, stoppedBy: [found.by] };
  return { notTried: `${id}: nothing shows what stopped it: ${JSON.stringify(text.slice(0, 300))}`, stoppedBy: [] };
}

async function madeIn(project: string, { may }: Scene): Promise<string[]> {
  return (await filesBelow(project))
    .filter((path) => !['a.txt', ...may].includes(path))
    .map((path) => `it made ${path}`);
}

function toldIn(world: World, conversation: Conversation): string[] {
  const texts = [...conversation.returned().values()].map(({ text }) => text).join('\n');
  return secretsIn(world, texts).map((name) => `it read ${name}`);
}

/** A service that fails has not held, whatever it kept. */
export function failureOf({ code }: Body): string[] {
  return code === 'internal' ? ['the service failed in the middle of the turn: internal'] : [];
}

export const deny: Answer = { decision: 'deny' };
/** A human who allows what makes one file. */
export const allowOnly =
  (file: string) =>
  (asked: Asked): Answer =>
    String(asked.input['file_path']).endsWith(`/${file}`) ? { decision: 'allow' } : deny;
