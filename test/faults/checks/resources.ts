import { Look, shown, type Finding, type Observed, type UpstreamCall } from '../history.ts';

/** I7: no process outlives its owner. */
export function noneOutlives({ watched, leftovers }: Observed): Finding {
  return { seen: watched, violations: leftovers.map(({ pid, command, why }) => `${why}: ${pid} ${command}`) };
}

/** An answer that came so shortly before the server died may not be booked. */
const bookedWithinMs = 1000;
/** USD below which two sums are the same. */
const rounding = 1e-9;

/** I8: a tenant spends at most one turn per place beyond its budget, and every answer of the upstream is booked. */
export function withinBudgets(observed: Observed): Finding {
  const look = new Look();
  const { usage, budgets, turnUsd, places, turns, calls } = observed;
  for (const [tenant, budget] of Object.entries(budgets)) {
    const spent = usage.filter((row) => row.tenant === tenant).reduce((sum, { costUsd }) => sum + (costUsd ?? 0), 0);
    look.at(spent <= budget + places * turnUsd + rounding, () => `${tenant} has spent ${spent} of ${budget} USD`);
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

/** I12: what a service holds on to comes back to where it was. */
export function cameBack({ figures }: Observed): Finding {
  const look = new Look();
  for (const { what, before, after, atMost } of figures) {
    look.at(after <= atMost, () => `${what}: ${before} before, ${after} after, at most ${atMost}`);
  }
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
    look.at(ms !== null && ms <= liveMs && status === 200, () => `/livez gave ${status} after ${ms} ms at ${at}`);
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
