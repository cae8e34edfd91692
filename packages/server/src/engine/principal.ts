import type { Right, Role } from '@sallyport/protocol';
import type { Narrowing } from './ports.ts';

export type { Role };

/** What a key may do, and for how long. */
export interface Reach {
  readonly role: Role;
  /** Null: all that its role may. */
  readonly narrowing: Narrowing | null;
  /** Null: it does not expire. */
  readonly expiresAt: number | null;
}

/** Who is asking: the key that authenticated and what it may do. */
export interface Principal extends Reach {
  readonly tenant: string;
  /** Name of the key, never the key itself. */
  readonly key: string;
  /** Hash of the secret it was let in with; null: that does not matter, as the key is configured or known by its name. */
  readonly secretHash: string | null;
}

const rightsOf: Readonly<Record<Role, readonly Right[]>> = {
  admin: ['run', 'read', 'approve', 'audit', 'manage'],
  operator: ['read', 'approve', 'audit'],
  user: ['run', 'read', 'approve'],
  viewer: ['read'],
};

/** True when the role of the principal includes the right. */
export function mayUse({ role }: Pick<Principal, 'role'>, right: Right): boolean {
  return rightsOf[role].includes(right);
}

/** True when a role includes every right of another one. */
export function includesRole(role: Role, other: Role): boolean {
  return rightsOf[other].every((right) => rightsOf[role].includes(right));
}
