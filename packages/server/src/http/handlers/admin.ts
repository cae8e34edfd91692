import { Readable } from 'node:stream';
import type { AuditLine } from '@sallyport/protocol';
import type { Admin } from '../../engine/admin.ts';
import { narrowingOf } from '../../engine/narrowing.ts';
import type { Handlers } from '../routes.ts';

type AdminOperation =
  | 'readAudit'
  | 'exportAudit'
  | 'listTenants'
  | 'createTenant'
  | 'changeTenant'
  | 'listKeys'
  | 'createKey'
  | 'changeKey'
  | 'rotateKey'
  | 'revokeKey'
  | 'listProcesses'
  | 'listUpstreams'
  | 'listSettings'
  | 'listStops'
  | 'stop'
  | 'liftStop'
  | 'usage'
  | 'allUsage';

async function* textOf(pages: AsyncIterable<AuditLine[]>): AsyncGenerator<string> {
  for await (const lines of pages) yield lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

const all = <T>(items: T[]) => ({ items, next_cursor: null });

/** What those who run the service do and read, and what a key reads of its own usage. */
export function adminHandlers(admin: Admin): Pick<Handlers, AdminOperation> {
  return {
    readAudit: ({ principal, query }) => admin.audit(principal, query),
    exportAudit: ({ reply, principal, query }) => {
      reply.header('content-disposition', 'attachment; filename="audit.jsonl"').type('application/x-ndjson');
      const pages = admin.exportAudit(principal, query.after);
      return reply.send(Readable.from(textOf(pages), { objectMode: false })); // bounded in bytes, not in pages
    },
    listTenants: async () => all(await admin.tenants()),
    createTenant: async ({ reply, principal, body }) =>
      reply.code(201).send(await admin.createTenant(principal, body.id, body.budgets ?? null)),
    changeTenant: ({ principal, params, body }) => admin.setTenantBudgets(principal, params.tenant, body.budgets),
    listKeys: async ({ params }) => all(await admin.keys(params.tenant)),
    createKey: async ({ reply, principal, params, body }) => {
      const { name, role, narrowing, expires_in } = body;
      const wanted = {
        name,
        role,
        narrowing: narrowing ? narrowingOf(narrowing) : null,
        expiresIn: expires_in ?? null,
      };
      return reply.code(201).send(await admin.createKey(principal, params.tenant, wanted));
    },
    changeKey: ({ principal, params, body }) => {
      const { narrowing, expires_in } = body;
      const change = {
        narrowing: narrowing === undefined ? undefined : narrowing && narrowingOf(narrowing),
        expiresIn: expires_in ?? undefined,
      };
      return admin.changeKey(principal, params.tenant, params.key, change);
    },
    rotateKey: ({ principal, params, body }) => admin.rotateKey(principal, params.tenant, params.key, body.overlap),
    revokeKey: ({ principal, params }) => admin.revokeKey(principal, params.tenant, params.key),
    listProcesses: async () => all(await admin.processes()),
    listUpstreams: async () => all(await admin.upstreams()),
    listSettings: async () => ({ ...(await admin.settings()), next_cursor: null }),
    listStops: async () => all(await admin.stops()),
    stop: async ({ reply, principal, body }) => {
      const { tenant = null, key = null, conversation = null, reason } = body;
      return reply.code(201).send(await admin.stop(principal, { tenant, key, conversation, reason }));
    },
    liftStop: ({ principal, params }) => admin.liftStop(principal, params.stop_id),
    usage: async ({ principal, query: { from, to } }) => {
      const report = await admin.ownUsage(principal, { from, to });
      return { ...report, next_cursor: null };
    },
    allUsage: async ({ principal, query: { from, to, tenant, key } }) => {
      const report = await admin.allUsage(principal, { from, to, tenant, key });
      return { ...report, next_cursor: null };
    },
  };
}
