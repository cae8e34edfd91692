import { invariantNames } from './checks/all.ts';
import type { Fault } from './fault.ts';
import type { Outcome } from './run.ts';

type Told = Omit<Outcome, 'observed'>;

const mostShown = 5;

/** What is known of one invariant after a fault: how much was looked at, or that it did not hold. */
function cellOf(outcome: Told, name: (typeof invariantNames)[number]): string {
  const finding = outcome.findings[name];
  if (finding === undefined || (finding.seen === 0 && finding.violations.length === 0)) return '-';
  if (finding.violations.length > 0) return 'BROKEN';
  return finding.late.length > 0 ? 'LATE' : String(finding.seen);
}

/** The lines of a table in which each fault has a row; a number says how many things an invariant was held against. */
export function tableOf(outcomes: readonly Told[]): string[] {
  const head = ['fault', 'held', 'expected', ...invariantNames, 'operations'];
  const rows = outcomes.map((outcome) => {
    if (outcome.notPlayed !== null) return [outcome.fault, 'not played', outcome.notPlayed];
    const expected = outcome.unmet.length > 0 ? 'UNMET' : String(outcome.expected);
    return [
      outcome.fault,
      outcome.held ? 'yes' : 'NO',
      expected,
      ...invariantNames.map((name) => cellOf(outcome, name)),
      String(outcome.operations),
    ];
  });
  const widths = head.map((cell, column) =>
    Math.max(cell.length, ...rows.filter((row) => row.length > 3).map((row) => row[column]?.length ?? 0)),
  );
  return [head, ...rows].map((row) =>
    (row.length === 3
      ? row.join('  ')
      : row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')
    ).trimEnd(),
  );
}

/** Why a fault did not hold, and how it is played again. */
export function reasonsOf({
  fault,
  title,
  seed,
  seconds,
  clients,
  findings,
  unmet,
  notes,
  held,
  notPlayed,
}: Told): string[] {
  if (held || notPlayed !== null) return [];
  const broken = invariantNames.flatMap((name) => {
    const finding = findings[name];
    const violations = [...(finding?.violations ?? []), ...(finding?.late ?? [])];
    const more = violations.length > mostShown ? [`  ${name}: and ${violations.length - mostShown} more`] : [];
    return [...violations.slice(0, mostShown).map((each) => `  ${name}: ${each}`), ...more];
  });
  const again = `node test/faults/main.ts ${fault} --seed ${seed} --seconds ${seconds} --clients ${clients}`;
  return [
    `${fault} (${title}) did not hold; again: ${again}`,
    ...unmet.map((each) => `  expected: ${each}`),
    ...broken,
    ...notes.map((each) => `  done: ${each}`),
  ];
}

/** The faults that a command line names: by id, or by the letters of a group. */
export function chosen(faults: readonly Fault[], names: readonly string[]): Fault[] {
  if (names.length === 0) return [...faults];
  return faults.filter(({ id }) => names.some((name) => id === name || id.replace(/\d+$/u, '') === name));
}
