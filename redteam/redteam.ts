import type { CallAttempt, LaterAttempt, Mode, StoryAttempt, Verdict } from './attempt.ts';
import { afterwards, callAttempts, declared, storyAttempts } from './attempts/all.ts';
import { springTraps, type Control } from './control.ts';
import { modes } from './modes.ts';
import type { Outcome, Report } from './report.ts';
import { playCalls } from './run.ts';
import { startWorld, type World } from './world.ts';

/** Stories that are played at the same time, beside the shared runs of the modes. */
const storiesAtOnce = 2;

/** Makes every attempt there is against a service of its own. Rejects when it cannot be started with a jail. */
export async function runRedTeam(): Promise<Report> {
  const world = await startWorld();
  try {
    const control = await springTraps(world);
    const [shared, stories] = await Promise.all([
      Promise.all(modes.map((mode) => playMode(world, control, mode))),
      playStories(world),
    ]);
    const outcomes = [...shared.flatMap((each) => each.outcomes), ...stories];
    const works = await world.listener.works();
    return {
      outcomes: works ? outcomes : outcomes.map((each) => (each.stoppedBy.includes('network') ? deaf(each) : each)),
      declared,
      jails: shared.filter(({ jailed }) => jailed).length,
    };
  } finally {
    await world.close();
  }
}

const deaf = (outcome: Outcome): Outcome => ({ ...outcome, notTried: 'the listener hears nothing' });

async function playMode(world: World, control: Control, mode: Mode): Promise<{ outcomes: Outcome[]; jailed: boolean }> {
  const calls = callAttempts.filter((attempt) => attempt.modes.includes(mode));
  const later = afterwards.filter((attempt) => attempt.modes.includes(mode));
  const outcomeFor = ({ name, reaches, known }: CallAttempt | LaterAttempt, verdict: Verdict) => ({
    name,
    reaches,
    known,
    mode,
    ...verdict,
  });
  try {
    const { ground, verdicts } = await playCalls(world, mode, calls);
    const outcomes = calls.map((each) => outcomeFor(each, verdicts.get(each.name) ?? failed('it was not planned')));
    for (const each of later) outcomes.push(outcomeFor(each, await verdictOf(() => each.play(ground, control))));
    return { outcomes, jailed: ground.jailed };
  } catch (error) {
    return { outcomes: [...calls, ...later].map((each) => outcomeFor(each, failed(error))), jailed: false };
  }
}

async function playStories(world: World): Promise<Outcome[]> {
  const due = storyAttempts.flatMap((attempt) => attempt.modes.map((mode) => ({ attempt, mode })));
  const outcomes: Outcome[] = [];
  const worker = async () => {
    for (let next = due.shift(); next !== undefined; next = due.shift()) outcomes.push(await outcomeOf(world, next));
  };
  await Promise.all(Array.from({ length: storiesAtOnce }, worker));
  return outcomes;
}

async function outcomeOf(world: World, { attempt, mode }: { attempt: StoryAttempt; mode: Mode }): Promise<Outcome> {
  const verdict = await verdictOf(() => attempt.play(world, mode));
  return { name: attempt.name, reaches: attempt.reaches, mode, ...verdict };
}

/** An attempt that fails by itself was not made. */
const failed = (error: unknown): Verdict => ({
  notTried: error instanceof Error ? error.message : String(error),
  gained: [],
  stoppedBy: [],
});

async function verdictOf(play: () => Promise<Verdict>): Promise<Verdict> {
  return await play().catch(failed);
}
