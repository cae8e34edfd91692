import { chmod, mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { listProcesses, makeTenant, quiet } from '../admin.ts';
import { openLoop, poissonTimes, randomOf } from '../arrivals.ts';
import { ourPeer, type Answer } from '../peers.ts';
import { firstOf, problemOf, type Round, type Row, type Sample } from '../row.ts';
import type { Stage } from '../stage.ts';
import { median, quantile } from '../statistics.ts';
import { promptWith, slowly } from '../words.ts';

/** How long the pool of spares may take to be full again, in milliseconds. */
const longestRefillMs = 60_000;
const pollMs = 20;
const lateShare = 0.95;
const projects = 5;

const sparesIn = async (stage: Stage) => (await listProcesses(stage)).filter(({ state }) => state === 'spare').length;

/** A tenant that nobody has heard of, and the word of its query. */
interface Newcomer {
  readonly tenant: string;
  readonly secret: string;
  readonly word: string;
}

/** Makes tenants, before anything is measured. */
async function newcomers(stage: Stage, round: Round, count: number, from = 0): Promise<Newcomer[]> {
  const made: Newcomer[] = [];
  for (let number = from; number < from + count; number += 1) {
    const word = round.word(number);
    const tenant = `tenant-${word}`;
    made.push({ tenant, secret: await makeTenant(stage, tenant), word });
  }
  return made;
}

/** Spares that the service makes in a second, measured once: as many new tenants as it has spares take them all at once. */
const refillRate = (stage: Stage, round: Round) => stage.once('M4 refill', () => measureRefill(stage, round));

async function measureRefill(stage: Stage, round: Round): Promise<number> {
  await quiet(stage);
  const full = await sparesIn(stage);
  // A service without spares is asked as if it could start one on each core in a second.
  if (full === 0) return availableParallelism();
  const all = await newcomers(stage, round, full, 100_000);
  const since = performance.now();
  await Promise.all(all.map(({ secret, word }) => ourPeer(stage.service.url, secret).query(promptWith(word))));
  while ((await sparesIn(stage)) < full && performance.now() - since < longestRefillMs) await delay(pollMs);
  return (full * 1000) / (performance.now() - since);
}

/** First texts of queries that arrive at a share of the rate of refill, each of a new tenant, or of the naive peer. */
async function arrivals(stage: Stage, side: string, round: Round, load: number, figure: (raw: number[]) => number) {
  const rate = await refillRate(stage, round);
  const times = poissonTimes(rate * load, round.seconds, randomOf(round.word(0)));
  const ours = side === 'sallyport' ? await newcomers(stage, round, times.length) : null;
  if (ours !== null) await quiet(stage);
  const answers = await openLoop(times, (index) => {
    const peer = ours === null ? stage.naive : ourPeer(stage.service.url, ours[index]?.secret ?? '');
    return peer.query(promptWith(round.word(index)));
  });
  const note = `${times.length} queries at ${(rate * load).toFixed(1)}/s; the service makes ${rate.toFixed(1)} spares/s`;
  return { ...sampleOf(answers, round, figure), note };
}

/** The figure of answers to the words of a round, in their order. */
function sampleOf(answers: readonly Answer[], round: Round, figure: (raw: number[]) => number): Sample {
  const problems = answers.map((answer, number) => problemOf(answer, [round.word(number)]));
  const raw = answers.flatMap(({ firstTextMs }, index) => (problems[index] === null ? (firstTextMs ?? []) : []));
  const wrong = answers.length - raw.length;
  const value = wrong === 0 && raw.length > 0 ? figure(raw) : null;
  return { value, right: raw.length, wrong, problems: firstOf(problems), raw };
}

const defaults = { sides: ['sallyport', 'naive'], rounds: 3, seconds: 20 } as const;

export const m4: Row = {
  ...defaults,
  id: 'M4',
  what: 'first query of a new tenant: time to first text',
  how: 'Poisson arrivals at 0.7 × the rate at which the service makes spares, the same for both sides; the median of the window is the figure of a round',
  unit: 'ms',
  goal: { of: 'sallyport', to: 'naive', atMost: 0.15 },
  measure: (stage, side, round) => arrivals(stage, side, round, 0.7, median),
};

export const m4Beyond: Row = {
  ...defaults,
  id: 'M4-beyond',
  what: 'first query of a new tenant, more of them than spares: time to first text of the slow ones',
  how: `as M4 at 2 × the rate at which the service makes spares; the ${lateShare * 100} % quantile of the window is the figure of a round`,
  unit: 'ms',
  goal: { of: 'sallyport', to: 'naive', atMost: 1.1 },
  measure: (stage, side, round) => arrivals(stage, side, round, 2, (raw) => quantile(raw, lateShare)),
};

/** Asks as a new tenant, and tells whether a process answers that was there before the query. */
async function tookSpare(stage: Stage, { tenant, secret, word }: Newcomer) {
  const sentAt = Date.now();
  const looks: ReturnType<typeof listProcesses>[] = [];
  const answer = await ourPeer(stage.service.url, secret).query(promptWith(word, slowly), () => {
    if (looks.length === 0) looks.push(listProcesses(stage));
  });
  const own = (await Promise.all(looks)).flat().find((process) => process.tenant === tenant);
  return { answer, spare: own !== undefined && Date.parse(own.started_at) < sentAt };
}

export const m4Share: Row = {
  id: 'M4-share',
  what: 'first query of a new tenant: share of those that are given a spare',
  how: 'Poisson arrivals at 0.7 × the rate at which the service makes spares; the model speaks slowly, and while it does the list of processes tells when the process of the query began: a spare before it was sent',
  unit: 'share',
  sides: ['sallyport'],
  goal: { of: 'sallyport', atLeast: 0.99 },
  rounds: 3,
  seconds: 20,
  async measure(stage, _side, round) {
    const rate = await refillRate(stage, round);
    const times = poissonTimes(rate * 0.7, round.seconds, randomOf(round.word(0)));
    const all = await newcomers(stage, round, times.length);
    await quiet(stage);
    const found = await openLoop(times, (index) => tookSpare(stage, all[index] as Newcomer));
    const share = found.filter(({ spare }) => spare).length / found.length;
    const sample = sampleOf(
      found.map(({ answer }) => answer),
      round,
      () => share,
    );
    return { ...sample, note: `${found.length} queries at ${(rate * 0.7).toFixed(1)}/s` };
  },
};

export const m4Project: Row = {
  id: 'M4-project',
  what: 'first query in a project_path: time to first text',
  how: `each of another new tenant in another directory; the median of ${projects} queries, one after the other, is the figure of a round`,
  unit: 'ms',
  sides: ['sallyport', 'naive'],
  goal: { of: 'sallyport', to: 'naive', atMost: 0.45 },
  rounds: 7,
  seconds: 0,
  async measure(stage, side, round) {
    const ours = side === 'sallyport' ? await newcomers(stage, round, projects) : null;
    const answers: Answer[] = [];
    for (let number = 0; number < projects; number += 1) {
      const path = join(stage.service.projects, round.word(number));
      await mkdir(path, { recursive: true });
      await chmod(path, 0o755);
      if (ours !== null) await quiet(stage);
      const { url } = stage.service;
      const peer = ours === null ? stage.naive : ourPeer(url, ours[number]?.secret ?? '', { project_path: path });
      answers.push(await peer.query(promptWith(round.word(number))));
    }
    return sampleOf(answers, round, median);
  },
};
