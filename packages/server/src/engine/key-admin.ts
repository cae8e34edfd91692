import { realpath, stat } from 'node:fs/promises';
import type { KeyInfo } from '@sallyport/protocol';
import { auditOfAdmin, flat } from './admin-audit.ts';
import type { Admin, AdminParts } from './admin.ts';
import { isoTime } from './clock.ts';
import { SallyportError } from './errors.ts';
import { Exclusive } from './exclusive.ts';
import { newId, newSecret } from './ids.ts';
import { secretHash } from './keys.ts';
import { beyond, closed, inherited, narrowingShape } from './narrowing.ts';
import { KeyTakenError, type AuditEntry, type KeyRecord, type Narrowing } from './ports.ts';
import type { Principal, Reach } from './principal.ts';
import { requireTenant } from './tenant-admin.ts';

/** Names that stand for others than stored keys, in every tenant: who reads the audit log must not take one for the other. */
const reserved = ['master', 'admin', 'key-1', 'key-2', 'key-3', 'key-4', 'key-5', 'service', 'anonymous'];

const secretPrefix = 'sallyport_';

const timeOf = (at: number | null): string | null => (at === null ? null : isoTime(at));
const pathOf = (tenant: string, name: string): string => JSON.stringify([tenant, name]);

function infoOf(key: KeyRecord): KeyInfo {
  const { tenant, name, role, narrowing, createdAt, createdBy, expiresAt, revokedAt, previousUntil } = key;
  return {
    tenant,
    name,
    role,
    narrowing: narrowing && narrowingShape(narrowing),
    created_at: isoTime(createdAt),
    created_by: createdBy,
    expires_at: timeOf(expiresAt),
    revoked_at: timeOf(revokedAt),
    previous_until: timeOf(previousUntil),
  };
}

function infoOfConfigured({ tenant, name, role }: AdminParts['configured'][number]): KeyInfo {
  const times = { created_at: null, expires_at: null, revoked_at: null, previous_until: null };
  return { tenant, name, role, narrowing: null, created_by: 'service', ...times };
}

const detailsOf = (narrowing: Narrowing | null): AuditEntry['details'] => ({
  narrowed: narrowing !== null,
  ...flat(narrowing && narrowingShape(narrowing)),
});

const wrong = (msg: string, ...field: (string | number)[]) =>
  new SallyportError('validation_failed', { issues: [{ loc: ['body', ...field], msg, type: 'value_error' }] });

function refuseBeyond(reach: Reach, giver: Reach, sentence: string): void {
  const part = beyond(reach, giver);
  if (part !== null) throw new SallyportError('beyond_own_rights', { detail: `${sentence}: ${part}.` });
}

const givenMore = 'A key can give only what it may do itself, and this is more';
const isMore = 'The key as it is may do more than the one that changes it';

/** The real path of a directory; null when there is none that can be reached. */
async function directory(path: string): Promise<string | null> {
  try {
    const real = await realpath(path);
    return (await stat(real)).isDirectory() ? real : null;
  } catch {
    return null;
  }
}

/**
 * The narrowing with its workspace roots as real paths. Whoever is narrowed to some directories is not told what there is
 * elsewhere.
 */
async function located(narrowing: Narrowing | null, giver: Reach): Promise<Narrowing | null> {
  if (!narrowing?.workspaceRoots) return narrowing;
  const workspaceRoots: string[] = [];
  for (const [index, path] of narrowing.workspaceRoots.entries()) {
    const real = await directory(path);
    if (real !== null) workspaceRoots.push(real);
    else if (giver.narrowing?.workspaceRoots) {
      throw new SallyportError('beyond_own_rights', { detail: `${givenMore}: narrowing.workspace_roots.` });
    } else throw wrong('is no directory of the server', 'narrowing', 'workspace_roots', index);
  }
  return { ...narrowing, workspaceRoots };
}

/** The part of `Admin` that looks after keys. */
export function keyAdmin(
  parts: AdminParts,
): Pick<Admin, 'keys' | 'createKey' | 'changeKey' | 'rotateKey' | 'revokeKey'> {
  const { keys, tenants, configured } = parts;
  return {
    async keys(tenant) {
      await requireTenant(tenants, tenant);
      const stored = await keys.list(tenant);
      return [...stored.map(infoOf), ...configured.filter((key) => key.tenant === tenant).map(infoOfConfigured)];
    },
    createKey: creation(parts),
    ...changes(parts),
  };
}

const inSeconds = ({ clock }: AdminParts, seconds: number): number => clock.now() + seconds * 1000;

/** What the key of whoever asks may now: it may be less than when it was let in. Rejects with `invalid_key` when it is revoked. */
async function reachNow({ keys, configured }: AdminParts, principal: Principal): Promise<Principal> {
  const { tenant, key, expiresAt } = principal;
  if (configured.some((each) => each.tenant === tenant && each.name === key)) return principal;
  const stored = await keys.get(tenant, key);
  if (stored === null || stored.revokedAt !== null) throw new SallyportError('invalid_key');
  const end = Math.min(expiresAt ?? Infinity, stored.expiresAt ?? Infinity);
  return { ...principal, role: stored.role, narrowing: stored.narrowing, expiresAt: end === Infinity ? null : end };
}

function creation(parts: AdminParts): Admin['createKey'] {
  const { keys, tenants, clock, configured } = parts;
  const isTaken = (tenant: string, name: string) =>
    reserved.includes(name.toLowerCase()) || configured.some((key) => key.tenant === tenant && key.name === name);

  return async (principal, tenant, { name = newId('key'), role, narrowing, expiresIn }) => {
    await requireTenant(tenants, tenant);
    if (role === 'admin' && tenant !== 'default') throw wrong('admins belong to the tenant "default"', 'role');
    if (isTaken(tenant, name)) throw new SallyportError('key_exists');
    const expiresAt = expiresIn === null ? null : inSeconds(parts, expiresIn);
    const giver = await reachNow(parts, principal);
    const reach = closed({ role, narrowing: await located(narrowing, giver), expiresAt }, giver);
    refuseBeyond(reach, giver, givenMore);
    const at = clock.now();
    const key: KeyRecord = {
      tenant,
      name,
      ...reach,
      createdAt: at,
      createdBy: principal.key,
      revokedAt: null,
      previousUntil: null,
    };
    const details = { role, ...detailsOf(key.narrowing), expires_at: timeOf(key.expiresAt) };
    const audit = auditOfAdmin(principal, { at, tenant, action: 'key.create', subject: name, details });
    const secret = newSecret(secretPrefix);
    try {
      await keys.create(key, secretHash(secret), audit);
    } catch (error) {
      throw error instanceof KeyTakenError ? new SallyportError('key_exists', { cause: error }) : error;
    }
    return { ...infoOf(key), secret };
  };
}

function changes(parts: AdminParts): Pick<Admin, 'changeKey' | 'rotateKey' | 'revokeKey'> {
  const { keys, clock } = parts;
  /** What a key was judged by must not change before it is changed. */
  const exclusive = new Exclusive();
  const unknown = () => new SallyportError('key_not_found');

  /** A key that may do no more than the one that changes it, which would gain by taking it over. */
  async function changeable(giver: Reach, tenant: string, name: string): Promise<KeyRecord> {
    const found = await keys.get(tenant, name);
    if (found === null || found.revokedAt !== null) throw unknown();
    refuseBeyond(found, giver, isMore);
    return found;
  }

  const changeKey: Admin['changeKey'] = async (principal, tenant, name, { narrowing, expiresIn }) => {
    const giver = await reachNow(parts, principal);
    const before = await changeable(giver, tenant, name);
    const change = {
      ...(narrowing !== undefined && {
        narrowing: inherited(await located(narrowing, giver), giver.narrowing),
      }),
      ...(expiresIn !== undefined && { expiresAt: inSeconds(parts, expiresIn) }),
    };
    const after = { ...before, ...change };
    refuseBeyond(after, giver, givenMore);
    const details = {
      ...(narrowing !== undefined && detailsOf(after.narrowing)),
      ...(expiresIn !== undefined && { expires_at: timeOf(after.expiresAt) }),
    };
    const at = clock.now();
    const audit = auditOfAdmin(principal, { at, tenant, action: 'key.change', subject: name, details });
    if (!(await keys.change(tenant, name, change, audit))) throw unknown();
    return infoOf(after);
  };

  const rotateKey: Admin['rotateKey'] = async (principal, tenant, name, overlap) => {
    const before = await changeable(await reachNow(parts, principal), tenant, name);
    const previousUntil = inSeconds(parts, overlap);
    const details = { previous_until: isoTime(previousUntil) };
    const at = clock.now();
    const audit = auditOfAdmin(principal, { at, tenant, action: 'key.rotate', subject: name, details });
    const secret = newSecret(secretPrefix);
    if (!(await keys.rotate(tenant, name, secretHash(secret), previousUntil, audit))) throw unknown();
    return { ...infoOf({ ...before, previousUntil }), secret };
  };

  return {
    changeKey: (principal, tenant, name, change) =>
      exclusive.run(pathOf(tenant, name), () => changeKey(principal, tenant, name, change)),
    rotateKey: (principal, tenant, name, overlap) =>
      exclusive.run(pathOf(tenant, name), () => rotateKey(principal, tenant, name, overlap)),
    async revokeKey(principal, tenant, name) {
      const at = clock.now();
      const audit = auditOfAdmin(principal, { at, tenant, action: 'key.revoke', subject: name, details: {} });
      const revoked = await keys.revoke(tenant, name, at, audit);
      const key = revoked ? await keys.get(tenant, name) : null;
      if (key === null) throw unknown();
      return infoOf(key);
    },
  };
}
