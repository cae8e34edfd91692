import { defences, type Mode, type Verdict } from './attempt.ts';

/** What became of one attempt in one mode. */
export interface Outcome extends Verdict {
  readonly name: string;
  readonly reaches: string;
  readonly mode: Mode;
  readonly known?: string | undefined;
}

/** The whole run. */
export interface Report {
  readonly outcomes: readonly Outcome[];
  /** How many attempts there should be. */
  readonly declared: number;
  /** Processes of Claude Code that were seen below bwrap. */
  readonly jails: number;
}

export const held = ({ notTried, gained }: Verdict): boolean => notTried === null && gained.length === 0;

/** True for an attempt that was made, got through, and is known to. */
const isKnown = ({ known, gained }: Outcome): boolean => known !== undefined && gained.length > 0;

/** True when every attempt was made and held, in jails. */
export const isGood = ({ outcomes, declared, jails }: Report): boolean =>
  jails > 0 && outcomes.length >= declared && outcomes.every((outcome) => held(outcome) || isKnown(outcome));

const saidOf = (outcome: Outcome): string => {
  if (isKnown(outcome)) return `not stopped, see ${outcome.known}`;
  return [
    ...(outcome.notTried === null ? [] : [`NOT TRIED: ${outcome.notTried}`]),
    ...outcome.gained.map((what) => `GOT THROUGH: ${what}`),
  ].join('; ');
};

/** One paragraph for each attempt: what it reaches for, and in which modes what stopped it. The last line counts. */
export function textOf(report: Report): string {
  const byName = Map.groupBy(report.outcomes, ({ name }) => name);
  const paragraphs = [...byName].map(([name, outcomes]) => {
    const ends = Map.groupBy(outcomes, (outcome) =>
      held(outcome) ? `held: ${outcome.stoppedBy.map((by) => defences[by]).join(', ')}` : saidOf(outcome),
    );
    const lines = [...ends].map(([end, list]) => `  ${list.map(({ mode }) => mode).join(', ')}: ${end}`);
    const word = outcomes.every(held)
      ? 'ok   '
      : outcomes.every((each) => held(each) || isKnown(each))
        ? 'KNOWN'
        : 'FAIL ';
    return [`${word} ${name}: ${outcomes[0]?.reaches}`, ...lines].join('\n');
  });
  const missing = report.declared - report.outcomes.length;
  return [
    ...paragraphs,
    '',
    `${report.jails} jails were seen`,
    ...(missing > 0 ? [`${missing} attempts were not carried out`] : []),
    [
      `${Math.max(report.outcomes.length, report.declared)} attempts`,
      `${report.outcomes.filter(held).length} held`,
      `${report.outcomes.filter(isKnown).length} known not to be stopped`,
    ].join(', '),
    '',
  ].join('\n');
}
