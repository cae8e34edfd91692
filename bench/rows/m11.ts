import { availableParallelism } from 'node:os';
import { makeTenant, quiet, settingOf } from '../admin.ts';
import { runLoad } from '../load/run.ts';
import type { Caller, Loaded } from '../load/spec.ts';
import { NoFigure, type Round, type Row, type Sample } from '../row.ts';
import type { Stage } from '../stage.ts';
import { quantile } from '../statistics.ts';

/** How many ask at once where the most is looked for that can be answered. */
const concurrency = 4 * availableParallelism();
const overload = 5;
/** Of a window, how much goes before it. */
const leadShare = 0.2;

const sumOf = ({ callers }: Loaded, what: 'asked' | 'right' | 'refused' | 'late') =>
  callers.reduce((sum, counts) => sum + counts[what], 0);

/** Asks in a closed loop, or, where some fill the queue before, in an open one, and waits until the service has come to rest, so that what is next begins as this did. */
async function ask(
  stage: Stage,
  round: Round,
  name: string,
  callers: readonly Caller[],
  filling: readonly number[] | null,
): Promise<Loaded> {
  const { seconds } = round;
  const most =
    Number(await settingOf(stage, 'SALLYPORT_MAX_PROCESSES')) + Number(await settingOf(stage, 'SALLYPORT_MAX_WAITING'));
  const loaded = await runLoad({
    service: stage.service.url,
    callers,
    loop: filling === null ? { kind: 'closed', concurrency } : { kind: 'open', filling, most },
    before: seconds * leadShare,
    seconds,
    name: `${name} ${round.word(0)}`,
  });
  await quiet(stage);
  return loaded;
}

const even = (keys: readonly string[], perSecond: number): Caller[] =>
  keys.map((key) => ({ key, perSecond: perSecond / keys.length }));

/** Right answers in a second while so many ask at once as can be answered; the keys take turns. */
async function peak(stage: Stage, round: Round): Promise<Loaded> {
  return await ask(stage, round, 'peak', even(stage.service.keys, 0), null);
}

/** Asks five times as much as the service answered at its peak. */
async function beyond(stage: Stage, round: Round, atPeak: number): Promise<Loaded> {
  const callers = even(stage.service.keys, atPeak * overload);
  return await ask(stage, round, 'overload', callers, [...callers.keys()]);
}

/** Right answers in a second. Throws `NoFigure` when there are none. */
function goodput(loaded: Loaded): number {
  const problem = loaded.problems[0] ?? 'it takes longer windows';
  if (sumOf(loaded, 'right') === 0) throw new NoFigure(`nothing was answered rightly: ${problem}`);
  return sumOf(loaded, 'right') / loaded.seconds;
}

function noteOf(loaded: Loaded): string {
  const each = (['asked', 'right', 'refused', 'late'] as const).map((what) => `${sumOf(loaded, what)} ${what}`);
  const cores = (loaded.cpuSeconds / loaded.seconds).toFixed(2);
  return `${each.join(', ')} in ${loaded.seconds.toFixed(1)} s; asking took ${cores} of a core and was ${loaded.lagMs.toFixed(1)} ms late at most (99 %)`;
}

function sampleOf(loaded: Loaded, figure: number | null, raw: readonly number[]): Sample {
  const { wrong, problems } = loaded;
  const value = wrong === 0 ? figure : null;
  return { value, right: sumOf(loaded, 'right'), wrong, problems, raw, note: noteOf(loaded) };
}

/** The peak of the stage, looked for once in a round. */
const lastPeak = new WeakMap<Stage, number>();

export const m11: Row = {
  id: 'M11',
  what: `one-shot queries answered in a second when ${overload} × as many are asked as can be answered`,
  how: `the peak is a closed loop at concurrency ${concurrency}; then an open loop, from when the queue is full; asked by a process of its own`,
  unit: '1/s',
  sides: ['peak', 'overload'],
  goal: { of: 'overload', to: 'peak', atLeast: 0.9 },
  rounds: 3,
  seconds: 15,
  async measure(stage, side, round) {
    const isPeak = side === 'peak';
    const loaded = isPeak ? await peak(stage, round) : await beyond(stage, round, lastPeak.get(stage) ?? 0);
    if (isPeak) lastPeak.set(stage, goodput(loaded));
    return sampleOf(loaded, goodput(loaded), [sumOf(loaded, 'right'), loaded.seconds, loaded.cpuSeconds]);
  },
};

export const m11Refusals: Row = {
  id: 'M11-refusals',
  what: `a refusal when ${overload} × as many queries are asked as can be answered`,
  how: 'as M11; the 99 % quantile of the window, from sending to the last byte, is the figure of a round',
  unit: 'ms',
  sides: ['sallyport'],
  goal: { of: 'sallyport', atMost: 10 },
  rounds: 3,
  seconds: 15,
  async measure(stage, _side, round) {
    const loaded = await beyond(stage, round, goodput(await peak(stage, round)));
    const { refusalMs } = loaded;
    if (refusalMs.length === 0 && loaded.wrong === 0) throw new NoFigure('nothing was refused');
    return sampleOf(loaded, refusalMs.length === 0 ? null : quantile(refusalMs, 0.99), refusalMs);
  },
};

const tenants = 4;
/** Of its fair share, what each tenant asks that does not flood: all of that could be answered. */
const modest = 0.8;

/** Keys of some tenants, made once. */
function tenantKeys(stage: Stage): Promise<readonly string[]> {
  const names = Array.from({ length: tenants }, (_, at) => `tenant-${at}`);
  return stage.once('M11 tenants', () => Promise.all(names.map((name) => makeTenant(stage, name))));
}

/** Of what each tenant asked, up to its fair share of all that was answered, how much was answered. */
function fairShares(loaded: Loaded): number[] {
  const fair = sumOf(loaded, 'right') / tenants;
  return loaded.callers.map(({ asked, right }) => Math.min(1, right / Math.min(asked, fair)));
}

export const m11Tenants: Row = {
  id: 'M11-tenants',
  what: `the share of the tenant that gets least when one of ${tenants} floods`,
  how: `one tenant asks ${overload} × as much as can be answered, the others ${modest * 100} % of their fair part each; what counts is how much of what a tenant asked was answered, up to its fair part`,
  unit: 'share',
  sides: ['sallyport'],
  goal: { of: 'sallyport', atLeast: 0.9 },
  rounds: 3,
  seconds: 20,
  async measure(stage, _side, round) {
    const keys = await tenantKeys(stage);
    const atPeak = goodput(await ask(stage, round, 'peak', even(keys, 0), null));
    const each = (atPeak / tenants) * modest;
    const callers = keys.map((key, at) => ({ key, perSecond: at === 0 ? atPeak * overload : each }));
    const loaded = await ask(stage, round, 'flood', callers, [0]);
    const shares = fairShares(loaded);
    return sampleOf(loaded, Math.min(...shares), shares);
  },
};
