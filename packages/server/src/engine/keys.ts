import { createHash, timingSafeEqual } from 'node:crypto';
import type { Principal, Role } from './principal.ts';

/** A key as it is configured: its name, what it may do, and the secret clients send. */
export interface KeyInput {
  readonly name: string;
  readonly role: Role;
  readonly tenant: string;
  readonly secret: string;
}

/** Finds the principal of a presented secret. Keeps digests only. */
export interface KeyRing {
  /** The principal of the secret, or null when no key has it. Takes any text; takes the same time for every key. */
  authenticate(secret: string): Principal | null;
  /** The principal of the key of this name, or null when the tenant has none. */
  named(tenant: string, key: string): Principal | null;
}

const digest = (secret: string): Buffer => createHash('sha256').update(secret, 'utf8').digest();

/**
 * Makes the ring of the configured keys. Throws when two keys share a secret, or two of a tenant a name, as neither could
 * be told from the other.
 */
export function createKeyRing(keys: readonly KeyInput[]): KeyRing {
  const ring = keys.map(({ secret, tenant, name, role }) => ({
    digest: digest(secret),
    principal: Object.freeze({ tenant, key: name, role }) satisfies Principal,
  }));
  if (new Set(ring.map((key) => key.digest.toString('hex'))).size !== ring.length) {
    throw new Error('two keys have the same secret');
  }
  const nameOf = (tenant: string, key: string): string => JSON.stringify([tenant, key]);
  const byName = new Map(ring.map(({ principal }) => [nameOf(principal.tenant, principal.key), principal]));
  if (byName.size !== ring.length) throw new Error('two keys have the same name');
  return {
    authenticate(secret) {
      const presented = digest(secret);
      let found: Principal | null = null;
      for (const key of ring) if (timingSafeEqual(key.digest, presented)) found = key.principal;
      return found;
    },
    named: (tenant, key) => byName.get(nameOf(tenant, key)) ?? null,
  };
}
