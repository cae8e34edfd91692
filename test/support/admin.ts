import assert from 'node:assert/strict';
import { masterKey } from './service.ts';

/** Where a service answers, now: it may be another one after a restart. */
interface Service {
  readonly url: string;
}

type Body = Record<string, any>;

/** Asks a route of `/api/admin`, as the service's admin unless another key is given. */
export async function admin(service: Service, method: string, path: string, body?: unknown, key = masterKey) {
  const response = await fetch(`${service.url}/api/admin/${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Body };
}

/** Like `admin`, of what must work. */
export async function administer(service: Service, method: string, path: string, body?: unknown): Promise<Body> {
  const answer = await admin(service, method, path, body);
  assert.ok(answer.status < 300, `${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** Makes a key and gives its secret. */
export async function makeKey(
  service: Service,
  wanted: {
    readonly tenant?: string;
    readonly role?: string;
    readonly name?: string;
    readonly [part: string]: unknown;
  } = {},
): Promise<string> {
  const { tenant = 'default', role = 'user', ...rest } = wanted;
  const made = await administer(service, 'POST', `tenants/${tenant}/keys`, { role, ...rest });
  return made['secret'] as string;
}

/** Makes a tenant with a user key of the name `web`, and gives its secret. */
export async function makeTenant(service: Service, id: string): Promise<string> {
  await administer(service, 'POST', 'tenants', { id });
  return await makeKey(service, { tenant: id, name: 'web' });
}

/** All lines of the audit log. */
export async function auditLines(service: Service): Promise<Body[]> {
  const response = await fetch(`${service.url}/api/admin/audit.jsonl`, {
    headers: { authorization: `Bearer ${masterKey}` },
  });
  assert.equal(response.status, 200);
  const text = await response.text();
  return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Body]));
}
