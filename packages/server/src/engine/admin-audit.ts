import type { AuditEntry } from './ports.ts';
import type { Principal } from './principal.ts';

type Details = AuditEntry['details'];

/** What an admin did, to what of which tenant, before it is written down. */
export interface AdminAct {
  readonly at: number;
  /** Whose operators read the line. */
  readonly tenant: string;
  readonly action: string;
  readonly subject: string;
  readonly details: Details;
}

/** The line of what an admin did. Names of keys are of one tenant, so that of another actor's is told too. */
export function auditOfAdmin({ tenant, key: actor }: Principal, act: AdminAct): AuditEntry {
  const details = act.tenant === tenant ? act.details : { ...act.details, actor_tenant: tenant };
  return { ...act, actor, ref: null, details };
}

/** A value as details, that hold no objects: `a.b` for a part of a part, lists as JSON, and nothing for what is null. */
export function flat(value: object | null, prefix = ''): Details {
  const parts = Object.entries(value ?? {}).map(([name, part]: [string, unknown]): Details => {
    const path = `${prefix}${name}`;
    if (typeof part === 'string' || typeof part === 'number') return { [path]: part };
    if (Array.isArray(part)) return { [path]: JSON.stringify(part) };
    return flat(part as object | null, `${path}.`);
  });
  return Object.assign({}, ...parts) as Details;
}
