import type { Right } from '@sallyport/protocol';

export type Role = 'admin' | 'operator' | 'user' | 'viewer';

/** Who is asking: the key that authenticated and what it may do. */
export interface Principal {
  readonly tenant: string;
  /** Name of the key, never the key itself. */
  readonly key: string;
  readonly role: Role;
}

const rightsOf: Readonly<Record<Role, readonly Right[]>> = {
  admin: ['run', 'read', 'approve', 'audit'],
  operator: ['read', 'approve', 'audit'],
  user: ['run', 'read', 'approve'],
  viewer: ['read'],
};

/** True when the role of the principal includes the right. */
export function mayUse(principal: Principal, right: Right): boolean {
  return rightsOf[principal.role].includes(right);
}
