import { monitorEventLoopDelay } from 'node:perf_hooks';
import { json } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { sendForJson } from '../client.ts';
import { runOptions } from '../peers.ts';
import { firstOf } from '../row.ts';
import { answerWith, promptWith, tools, wordOf } from '../words.ts';
import type { Counts, Load, Loaded, OpenLoop } from './spec.ts';

// Asks a service, in a process of its own so that neither takes the other's turn. Answers come as JSON: that takes least
// of this side.

const load = (await json(process.stdin)) as Load;
const counts = load.callers.map((): Counts => ({ asked: 0, right: 0, refused: 0, late: 0 }));
const problems: string[] = [];
const refusalMs: number[] = [];
const over = new AbortController();
const lag = monitorEventLoopDelay({ resolution: 10 });
let [counting, next, refusedOnce] = [false, 0, false];

type Outcome = 'right' | 'refused' | 'late' | { readonly wrong: string };

function outcomeOf(status: number, body: Record<string, any>, word: string): Outcome {
  if (status === 503 && body['code'] === 'overloaded') return 'refused';
  const text: unknown = body['messages']?.at(-1)?.content;
  if (status === 200 && body['success'] === true) {
    return text === answerWith([word], tools)
      ? 'right'
      : { wrong: `the answer is wrong: ${String(text).slice(0, 200)}` };
  }
  if (status === 200 && body['stop_reason'] === 'timeout') return 'late';
  return { wrong: `status ${status}: ${JSON.stringify(body).slice(0, 200)}` };
}

/** Asks one query and counts what becomes of it. */
async function ask(caller: number): Promise<void> {
  next += 1;
  const word = wordOf(load.name, caller, next);
  const mine = counts[caller] as Counts;
  const isOfWindow = counting;
  if (isOfWindow) mine.asked += 1;
  const since = performance.now();
  const outcome = await sendForJson({
    url: `${load.service}/api/claude/query`,
    method: 'POST',
    headers: { authorization: `Bearer ${load.callers[caller]?.key}` },
    body: { prompt: promptWith(word), ...runOptions },
  }).then(
    ({ status, body }) => outcomeOf(status, body, word),
    (error: unknown): Outcome => ({ wrong: String(error) }),
  );
  if (typeof outcome === 'object') problems.push(outcome.wrong);
  else if (outcome !== 'refused') mine[outcome] += counting ? 1 : 0;
  else refusedOnce = true;
  if (outcome !== 'refused' || !isOfWindow) return;
  mine.refused += 1;
  refusalMs.push(performance.now() - since);
}

async function closed(concurrency: number): Promise<void> {
  const one = async (_: unknown, at: number) => {
    while (!over.signal.aborted) await ask(at % load.callers.length);
  };
  await Promise.all(Array.from({ length: concurrency }, one));
}

/** Between two queries that fill the queue, in milliseconds. */
const fillingMs = 5;

async function fill({ filling, most }: OpenLoop): Promise<void> {
  for (let number = 0; number < most && !refusedOnce; number += 1) {
    void ask(filling[number % filling.length] as number);
    await delay(fillingMs);
  }
}

/** Asks at an even rate, from a place within the first step that differs between callers. */
async function open(caller: number): Promise<void> {
  const { perSecond } = load.callers[caller]!;
  const stepMs = 1000 / perSecond;
  const since = performance.now() + (stepMs * caller) / load.callers.length;
  for (let number = 0; !over.signal.aborted; number += 1) {
    const early = since + number * stepMs - performance.now();
    if (early > 0) await delay(early);
    if (!over.signal.aborted) void ask(caller);
  }
}

const { loop } = load;
if (loop.kind === 'open') await fill(loop);
const asking = loop.kind === 'closed' ? closed(loop.concurrency) : Promise.all(load.callers.map((_, at) => open(at)));
await Promise.race([asking, delay(load.before * 1000)]);
lag.enable();
counting = true;
const [since, cpuSince] = [performance.now(), process.cpuUsage()];
await Promise.race([asking, delay(load.seconds * 1000)]);
counting = false;
lag.disable();
const [passed, cpu] = [(performance.now() - since) / 1000, process.cpuUsage(cpuSince)];
over.abort();
const loaded: Loaded = {
  callers: counts,
  refusalMs,
  wrong: problems.length,
  problems: firstOf(problems),
  seconds: passed,
  cpuSeconds: (cpu.user + cpu.system) / 1e6,
  // The resolution itself is counted as delay.
  lagMs: Math.max(0, lag.percentile(99) / 1e6 - 10),
};
// What is still asked is left: whoever waits for it is gone.
process.stdout.write(JSON.stringify(loaded), () => process.exit(0));
