import { Look, shown, type Finding, type Observed, type UpstreamCall } from '../history.ts';

/** I7: no process outlives its owner. */
export function noneOutlives({ watched, leftovers }: Observed): Finding {
  return { seen: watched, violations: leftovers.map(({ pid, command, why }) => `${why}: ${pid} ${command}`), late: [] };
}

/** An answer that came so shortly before the server died may not be booked. */
const bookedWithinMs = 1000;
/** USD below which two sums are the same. */
const rounding = 1e-9;

/** I8: a tenant spends at most one call for each turn at a time beyond its budget, and every answer of the upstream is booked. */
export function withinBudgets(observed: Observed): Finding {
  const look = new Look();
  const { usage, budgets, places, turns, calls } = observed;
  for (const [tenant, budget] of Object.entries(budgets)) {
    const costs = usage.filter((row) => row.tenant === tenant).map(({ costUsd }) => costUsd ?? 0);
    const spent = costs.reduce((sum, usd) => sum + usd, 0);
    // Each call was let through while something was left; what it costs is known when it has ended.
    const most = budget + places * Math.max(0, ...costs);
    look.at(spent <= most + rounding, () => `${tenant} has spent ${spent} of ${budget} USD; at most ${most}`);
  }
  const answered = calls.filter((call) => call.outcome === 'answered' && !isCut(observed, call));
  for (const [word, own] of Map.groupBy(answered, (call) => call.word)) {
    const turn = turns.find((each) => each.word === word);
    if (turn === undefined) continue;
    // An answer that nobody waited for any more is booked by its request, with no status.
    const booked = usage.filter((row) => row.turn === turn.id && (row.status === 200 || row.status === 0));
    look.at(
      booked.length >= own.length,
      () => `the upstream answered ${own.length} calls of ${word}, ${booked.length} are booked`,
    );
    look.at(
      booked.every(({ status, inputTokens, outputTokens }) => inputTokens > 0 && (outputTokens > 0 || status === 0)),
      () => `a call of ${word} is booked with ${shown(booked)}`,
    );
  }
  return look.finding;
}

/** True when the server was killed, or a node stopped, while the answer was on its way to the books. */
const isCut = ({ outages, frozen }: Observed, { at, finishedAt }: UpstreamCall): boolean =>
  [...outages, ...frozen].some(({ from, to }) => at <= to && (finishedAt ?? Infinity) >= from - bookedWithinMs);

/** Longest time for figures to come back. */
export const backMs = 60_000;

/** I12: what a service holds on to comes back to where it was. */
export function cameBack({ figures, figuresMs }: Observed): Finding {
  const look = new Look();
  for (const { what, before, after, atMost } of figures) {
    look.at(after <= atMost, () => `${what}: ${before} before, ${after} after, at most ${atMost}`);
  }
  if (figures.length > 0) look.inTime(figuresMs <= backMs, () => `it took ${figuresMs} ms for all to come back`);
  return look.finding;
}

const refusals = new Set([429, 503]);

/** I13: `/livez` answers whenever a server is there, and refusals say what they are and when to come again. */
export function cleanRefusals({ probes, liveMs, outages, frozen, operations }: Observed): Finding {
  const look = new Look();
  const isDown = (from: number, to: number) =>
    [...outages, ...frozen].some((span) => from <= span.to && to >= span.from);
  for (const { at, ms, status } of probes) {
    if (isDown(at, at + (ms ?? liveMs))) continue;
    const found = () => `/livez gave ${status} after ${ms} ms at ${at}`;
    look.at(status === 200 || (status === null && ms !== null), found);
    look.inTime((ms ?? 0) <= liveMs, found);
  }
  for (const { number, path, status, code, retryAfter, received } of operations) {
    if (status === null || status < 400) continue;
    const found = () =>
      `operation ${number} (${path}) was refused with ${status}: ${shown([code, retryAfter, received])}`;
    look.at(code !== null && code !== 'internal', found);
    if (refusals.has(status) && received.includes('"retryable":true')) look.at(Number(retryAfter) > 0, found);
  }
  return look.finding;
}
