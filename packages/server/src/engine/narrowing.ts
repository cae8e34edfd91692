import type { NarrowingShape } from '@sallyport/protocol';
import type { Budgets, Narrowing, RateLimits } from './ports.ts';
import { includesRole, type Reach } from './principal.ts';
import { isWithin } from './workspaces.ts';

/** A key that is not narrowed. */
export const unnarrowed: Narrowing = {
  permissionModes: null,
  tools: null,
  models: null,
  workspaceRoots: null,
  rates: null,
  budgets: null,
};

const rateParts = ['perMinute', 'perHour', 'burst'] as const satisfies readonly (keyof RateLimits)[];
const budgetParts = ['run', 'conversation', 'day', 'month'] as const satisfies readonly (keyof Budgets)[];

/** A narrowing as it is stored. */
export function narrowingOf(shape: NarrowingShape): Narrowing {
  const { permission_modes, tools, models, workspace_roots, rates, budgets } = shape;
  return {
    permissionModes: permission_modes,
    tools,
    models,
    workspaceRoots: workspace_roots,
    rates: rates && {
      ...(rates.requests_per_minute !== undefined && { perMinute: rates.requests_per_minute }),
      ...(rates.requests_per_hour !== undefined && { perHour: rates.requests_per_hour }),
      ...(rates.burst_size !== undefined && { burst: rates.burst_size }),
    },
    budgets,
  };
}

/** A narrowing as clients read it. */
export function narrowingShape(narrowing: Narrowing): NarrowingShape {
  const { permissionModes, tools, models, workspaceRoots, rates, budgets } = narrowing;
  return {
    permission_modes: permissionModes && [...permissionModes],
    tools: tools && [...tools],
    models: models && [...models],
    workspace_roots: workspaceRoots && [...workspaceRoots],
    rates: rates && {
      ...(rates.perMinute !== undefined && { requests_per_minute: rates.perMinute }),
      ...(rates.perHour !== undefined && { requests_per_hour: rates.perHour }),
      ...(rates.burst !== undefined && { burst_size: rates.burst }),
    },
    budgets: budgets && { ...budgets },
  };
}

/** What is wanted, with the parts that are left open taken from the key that gives it. */
export function inherited(wanted: Narrowing | null, giver: Narrowing | null): Narrowing | null {
  if (giver === null) return wanted;
  const open = wanted ?? unnarrowed;
  return {
    permissionModes: open.permissionModes ?? giver.permissionModes,
    tools: open.tools ?? giver.tools,
    models: open.models ?? giver.models,
    workspaceRoots: open.workspaceRoots ?? giver.workspaceRoots,
    rates: open.rates || giver.rates ? { ...giver.rates, ...open.rates } : null,
    budgets: inheritedBudgets(open.budgets, giver.budgets),
  };
}

function inheritedBudgets(wanted: Budgets | null, giver: Budgets | null): Budgets | null {
  if (wanted === null || giver === null) return wanted ?? giver;
  const part = (name: keyof Budgets) => wanted[name] ?? giver[name];
  return { run: part('run'), conversation: part('conversation'), day: part('day'), month: part('month') };
}

/** What a key is to be, with all that is left open taken from the key that gives it. */
export function closed({ role, narrowing, expiresAt }: Reach, giver: Reach): Reach {
  return {
    role,
    narrowing: inherited(narrowing, giver.narrowing),
    expiresAt: expiresAt ?? giver.expiresAt,
  };
}

/**
 * The first part in which a key would be more than the one that gives it, as requests name it; null when it is no more in
 * any. What the giver is not narrowed in can be anything: rates above the service's own too.
 */
export function beyond(given: Reach, giver: Reach): string | null {
  if (!includesRole(giver.role, given.role)) return 'role';
  const part = beyondNarrowing(given.narrowing ?? unnarrowed, giver.narrowing ?? unnarrowed);
  if (part !== null) return `narrowing.${part}`;
  return atMost(given.expiresAt, giver.expiresAt) ? null : 'expires_in';
}

function beyondNarrowing(given: Narrowing, giver: Narrowing): string | null {
  if (!isSubset(given.permissionModes, giver.permissionModes)) return 'permission_modes';
  if (!isSubset(given.tools, giver.tools)) return 'tools';
  if (!isSubset(given.models, giver.models)) return 'models';
  if (!rootsWithin(given.workspaceRoots, giver.workspaceRoots)) return 'workspace_roots';
  if (!rateParts.every((name) => rateAtMost(given.rates?.[name], giver.rates?.[name]))) return 'rates';
  const budgetsFit = budgetParts.every((name) => atMost(given.budgets?.[name] ?? null, giver.budgets?.[name] ?? null));
  return budgetsFit ? null : 'budgets';
}

/** Null is the set of all there is. */
function isSubset<T>(given: readonly T[] | null, giver: readonly T[] | null): boolean {
  return giver === null || (given !== null && given.every((item) => giver.includes(item)));
}

function rootsWithin(given: readonly string[] | null, giver: readonly string[] | null): boolean {
  if (giver === null) return true;
  return given !== null && given.every((path) => giver.some((root) => isWithin(root, path)));
}

/** Null is no bound. */
function atMost(given: number | null, giver: number | null): boolean {
  return giver === null || (given !== null && given <= giver);
}

/** 0 is no limit, and a part that is missing is the service's own, which a narrowed giver's may be below. */
function rateAtMost(given: number | undefined, giver: number | undefined): boolean {
  if (giver === undefined || giver === 0) return true;
  return given !== undefined && given !== 0 && given <= giver;
}
