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

function goalText({ of, to, atMost, atLeast }: Goal): string {
  return `${of} / ${to} ${atMost === undefined ? `≥ ${atLeast}` : `≤ ${atMost}`}`;
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
export function rowText({ id, what, how, unit, goal, jailed, load, sides, ratio, interval, met, reason }: RowResult) {
  const cells = sides.map(({ side, rounds, median, interval, right, wrong }) => [
    side,
    median === null ? '–' : `${rounded(median)} ${unit}`,
    range(interval),
    `${right} right, ${wrong} wrong`,
    rounds.map(({ value }) => (value === null ? '–' : rounded(value))).join(' '),
  ]);
  const head = ['side', 'median', '95 %', 'answers', 'rounds'];
  const verdict =
    ratio === null
      ? `no figure: ${reason}`
      : `${rounded(ratio)} (${range(interval)}), goal ${goalText(goal)}: ${met === true ? 'met' : 'MISSED'}`;
  return [
    `${id}  ${what}`,
    `    ${how}; jail ${jailed ? 'on' : 'OFF'}, load of the machine before ${rounded(load)}`,
    ...(cells.length > 0 ? aligned([head, ...cells]) : []),
    `    ratio ${verdict}`,
    '',
  ].join('\n');
}

/** Lines with columns of equal width. */
function aligned(lines: readonly (readonly string[])[]): string[] {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines.map((line) => `    ${line.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join('  ')}`.trimEnd());
}
