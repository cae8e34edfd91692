import { resolve } from 'node:path';
import { permissionModes, toolNames, type NarrowingShape, type TenantInfo } from '@sallyport/protocol';
import { InvalidArgumentError, type Command } from 'commander';

type Budgets = NonNullable<TenantInfo['budgets']>;
type Rates = NonNullable<NarrowingShape['rates']>;
type Options = Readonly<Record<string, unknown>>;

const unitSeconds: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 };

/** Reads a duration as `90`, `90s`, `15m`, `12h` or `30d`, in seconds. */
export function duration(text: string): number {
  const { amount = '', unit = '' } = /^(?<amount>\d{1,9})(?<unit>[smhd]?)$/u.exec(text)?.groups ?? {};
  if (amount === '') throw new InvalidArgumentError('It must be a number of seconds, or as 15m, 12h or 30d.');
  return Number(amount) * (unitSeconds[unit] ?? 1);
}

/** A number, or the word `any`. */
function bound(text: string): number | string {
  if (text === 'any') return text;
  if (!/^\d+(?:\.\d+)?$/u.test(text)) throw new InvalidArgumentError('It must be a number, or "any".');
  return Number(text);
}

const listed = (text: string, before: string[] | undefined): string[] => [...(before ?? []), text];

/** The value of a flag: the word `any` is null, and `none` an empty list. */
function valueOf(given: unknown): unknown {
  if (!Array.isArray(given)) return given === 'any' ? null : given;
  return given.includes('any') ? null : given.filter((word) => word !== 'none');
}

const budgetFlags = {
  budgetRun: 'run',
  budgetConversation: 'conversation',
  budgetDay: 'day',
  budgetMonth: 'month',
} as const;
const rateFlags = { perMinute: 'requests_per_minute', perHour: 'requests_per_hour', burst: 'burst_size' } as const;
const listFlags = { mode: 'permission_modes', tool: 'tools', model: 'models', root: 'workspace_roots' } as const;

/** Lets a command take budgets. */
export function withBudgets(command: Command): Command {
  return command
    .option('--budget-run <usd>', 'Most for one turn; any: no bound.', bound)
    .option('--budget-conversation <usd>', 'Most for a conversation.', bound)
    .option('--budget-day <usd>', 'Most in a day, by UTC.', bound)
    .option('--budget-month <usd>', 'Most in a month, by UTC.', bound);
}

/** Lets a command take what a key may less than its role. */
export function withNarrowing(command: Command): Command {
  const several = 'Can be given several times. any: not narrowed';
  command
    .option('--mode <mode>', `Permission mode: ${permissionModes.join(', ')}. ${several}.`, listed)
    .option('--tool <tool>', `Tool: ${toolNames.join(', ')}. ${several}; none: no tools.`, listed)
    .option('--model <model>', `Model. ${several}.`, listed)
    .option('--root <directory>', `Directory for projects. ${several}; none: no projects.`, listed)
    .option('--per-minute <requests>', 'In any 60 seconds; 0: no limit, any: as the service has it.', bound)
    .option('--per-hour <requests>', 'In any hour.', bound)
    .option('--burst <requests>', 'In any 10 seconds.', bound);
  return withBudgets(command);
}

/** What was given by the flags, under the names that requests have for it. */
function givenBy(options: Options, flags: Readonly<Record<string, string>>): Record<string, unknown> {
  const given = Object.entries(flags).filter(([flag]) => flag in options);
  return Object.fromEntries(given.map(([flag, part]) => [part, valueOf(options[flag])]));
}

const noBudgets: Budgets = { run: null, conversation: null, day: null, month: null };

/** The budgets there are with those that were given in place of their own; undefined when none was given. */
export function budgetsIn(options: Options, before: Budgets | null): Budgets | null | undefined {
  const given = givenBy(options, budgetFlags);
  if (Object.keys(given).length === 0) return undefined;
  const budgets = { ...noBudgets, ...before, ...given };
  return Object.values(budgets).every((part) => part === null) ? null : budgets;
}

function ratesIn(options: Options, before: Rates | null): Rates | null {
  const limits = Object.entries({ ...before, ...givenBy(options, rateFlags) }).filter(([, limit]) => limit !== null);
  return limits.length === 0 ? null : Object.fromEntries(limits);
}

/** True when a part of a narrowing was given. */
export const isNarrowed = (options: Options): boolean =>
  Object.keys(givenBy(options, { ...listFlags, ...rateFlags, ...budgetFlags })).length > 0;

const open = { permission_modes: null, tools: null, models: null, workspace_roots: null, rates: null, budgets: null };

/** The narrowing there is with the parts that were given in place of its own. */
export function narrowingIn(options: Options, before: NarrowingShape | null): NarrowingShape {
  const own: NarrowingShape = before ?? open;
  const lists = givenBy(options, listFlags);
  const roots = lists['workspace_roots'] as string[] | null | undefined;
  if (roots) lists['workspace_roots'] = roots.map((path) => resolve(path));
  const budgets = budgetsIn(options, own.budgets);
  return {
    ...own,
    ...lists,
    rates: ratesIn(options, own.rates),
    budgets: budgets === undefined ? own.budgets : budgets,
  };
}

/** Budgets as a table shows them. */
export function budgetsText(budgets: Budgets | null): string {
  const set = Object.entries(budgets ?? {}).filter(([, usd]) => usd !== null);
  return set.map(([period, usd]) => `$${usd}/${period}`).join(' ') || '-';
}

/** A narrowing as a table shows it. */
export function narrowingText(narrowing: NarrowingShape | null): string {
  if (narrowing === null) return '-';
  const { budgets, rates, ...lists } = narrowing;
  const parts = Object.entries(lists)
    .filter(([, list]) => list !== null)
    .map(([name, list]) => `${name}=${list?.join(',') || 'none'}`);
  const limits = Object.entries(rates ?? {}).map(([name, limit]) => `${name}=${limit}`);
  const spending = budgetsText(budgets);
  return [...parts, ...limits, ...(spending === '-' ? [] : [spending])].join(' ') || '-';
}
