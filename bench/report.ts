import type { Machine } from './machine.ts';
import type { Goal } from './row.ts';
import type { RowResult } from './run.ts';
import type { Interval } from './statistics.ts';

/** All that a run found, as it is written to its file. */
export interface Report {
  readonly format: 1;
  readonly startedAt: string;
  readonly command: string;
  readonly commit: string | null;
  readonly machine: Machine;
  readonly rows: readonly RowResult[];
}

const rounded = (value: number) => String(Number(value.toPrecision(value < 1000 ? 3 : 4)));
const range = (interval: Interval | null) =>
  interval === null ? '' : `${rounded(interval.low)}–${rounded(interval.high)}`;

function goalText({ of, to, by, atMost, atLeast }: Goal): string {
  const compared = to === undefined ? of : `${of} ${by === 'difference' ? '−' : '/'} ${to}`;
  return `${compared} ${atMost === undefined ? `≥ ${atLeast}` : `≤ ${atMost}`}`;
}

/** What was found on which machine, before the rows. */
export function headText({ startedAt, command, commit, machine }: Omit<Report, 'rows'>): string {
  const { cores, processor, memoryGb, node, platform, agentSdk } = machine;
  return [
    `${command}    ${startedAt}    commit ${commit ?? 'unknown'}`,
    `${cores} cores (${processor}), ${memoryGb} GB, ${platform}, Node ${node}, Agent SDK ${agentSdk}`,
    '',
  ].join('\n');
}

/** One row as a table: each side with its rounds, median and range of 95 %, then the ratio and whether it is enough. */
export function rowText(result: RowResult): string {
  const { id, what, how, name, unit, goal, jailed, load, sides, ratio, interval, met, reason } = result;
  const cells = sides.map(({ side, values, median, interval, right, wrong }) => [
    side,
    median === null ? '–' : `${rounded(median)} ${unit}`,
    range(interval),
    `${right} right, ${wrong} wrong`,
    values.map((value) => (value === null ? '–' : rounded(value))).join(' '),
  ]);
  const head = ['side', name, '95 %', 'answers', 'rounds'];
  const verdict =
    ratio === null
      ? `no figure: ${reason}`
      : `${rounded(ratio)} (${range(interval)}), goal ${goalText(goal)}: ${met === true ? 'met' : 'MISSED'}`;
  const notes = sides.flatMap(({ side, rounds }) =>
    [...new Set(rounds.flatMap(({ note }) => note ?? []))].map((note) => `    ${side}: ${note}`),
  );
  return [
    `${id}  ${what}`,
    `    ${how}; jail ${jailed ? 'on' : 'OFF'}, load of the machine before ${rounded(load)}`,
    ...(cells.length > 0 ? aligned([head, ...cells]) : []),
    ...notes,
    `    ${goal.to === undefined ? 'figure' : (goal.by ?? 'ratio')} ${verdict}`,
    '',
  ].join('\n');
}

/** Lines with columns of equal width. */
function aligned(lines: readonly (readonly string[])[]): string[] {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines.map((line) => `    ${line.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join('  ')}`.trimEnd());
}
