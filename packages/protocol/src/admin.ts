import { z } from 'zod';
import { keyOperations } from './keys.ts';
import { attachment, json, type Operation } from './operation.ts';
import { timestamp } from './shapes.ts';
import { stopOperations } from './stops.ts';
import { upstreamOperations } from './upstreams.ts';
import { usageOperations } from './usage.ts';

const base = '/api/admin';

const digits = z.string().regex(/^\d{1,15}$/u, { error: 'must be a whole number' });

export const auditQuery = z.strictObject({
  after: digits.transform(Number).default(0).describe('Lines after this `seq`; 0: from the first.'),
  limit: digits.transform(Number).pipe(z.int().min(1).max(1000)).default(200).describe('Most lines of a page.'),
});

export const auditExportQuery = z.strictObject({ after: auditQuery.shape.after });

export const auditLine = z
  .object({
    seq: z.int().describe('Place in the log. An admin sees all lines, so that there is no gap.'),
    at: z.int().describe('Milliseconds since 1970, as they are hashed.'),
    time: timestamp,
    tenant: z.string(),
    actor: z.string().describe('The key that acted, or `service`.'),
    action: z.string(),
    ref: z.object({ conversation: z.string(), turn: z.string() }).nullable(),
    subject: z.string().nullable(),
    details: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
    hash: z.string().describe('SHA-256 over the hash before it and this line.'),
  })
  .meta({ id: 'AuditLine' });
export type AuditLine = z.output<typeof auditLine>;

export const auditPage = z
  .object({ items: z.array(auditLine), next_cursor: z.string().nullable() })
  .meta({ id: 'AuditPage' });

/** A process of Claude Code. */
export const processInfo = z
  .object({
    process_id: z.string(),
    pid: z.int().describe('As the server sees it; of a jailed one that of the jail.'),
    state: z
      .enum(['starting', 'running', 'idle', 'cleared', 'spare'])
      .describe(
        '`idle`: it waits for the next turn of its conversation; `cleared`: for a query of its tenant with the same settings; `spare`: for anybody.',
      ),
    uses: z.int().describe('Sessions that were in it, the present one included.'),
    memory_bytes: z.int().describe('What it has resident; 0 where the system does not tell.'),
    tenant: z.string().nullable(),
    session_id: z.string().nullable().describe('The conversation it works for.'),
    model: z.string().nullable(),
    permission_mode: z.string().nullable(),
    tools: z.array(z.string()).nullable(),
    project_path: z.string().nullable(),
    started_at: timestamp,
    age_seconds: z.int(),
  })
  .meta({ id: 'ProcessInfo' });
export type ProcessInfo = z.output<typeof processInfo>;

export const settingLine = z
  .object({
    variable: z.string(),
    value: z.string().describe('`set` or `not set` for secrets.'),
    source: z.string().describe('Where the value comes from.'),
  })
  .meta({ id: 'SettingLine' });
export type SettingInfo = z.output<typeof settingLine>;

const listOf = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item), next_cursor: z.null() });

/** The routes of those who run the service. */
export const adminOperations = {
  readAudit: {
    id: 'readAudit',
    method: 'GET',
    path: `${base}/audit`,
    summary: 'Reads the audit log, oldest first',
    description:
      'Who did what: tool calls with the rule or human that decided, decisions about approvals, authentications, changes of keys, tenants and stops, what admins read, deleted conversations. Each line is chained to the one before by its hash. An operator sees the lines of its tenant. `next_cursor` is the `after` of the next page.',
    right: 'audit',
    query: auditQuery,
    response: json(auditPage, 'One page.'),
    errors: [],
  },
  exportAudit: {
    id: 'exportAudit',
    method: 'GET',
    path: `${base}/audit.jsonl`,
    summary: 'Gives the audit log as JSON lines, oldest first',
    description: 'Each line is an `AuditLine`. Ends with the last line there was when it began.',
    right: 'audit',
    query: auditExportQuery,
    response: attachment('application/x-ndjson', 'The lines.'),
    errors: [],
  },
  listProcesses: {
    id: 'listProcesses',
    method: 'GET',
    path: `${base}/processes`,
    summary: 'Lists the processes of Claude Code',
    description: 'Those of this server, as they are now.',
    right: 'manage',
    response: json(listOf(processInfo), 'The processes.'),
    errors: [],
  },
  listSettings: {
    id: 'listSettings',
    method: 'GET',
    path: `${base}/settings`,
    summary: 'Lists the settings in force',
    description: 'Without secrets. `configuration` names all of them together, as the audit log does.',
    right: 'manage',
    response: json(listOf(settingLine).extend({ configuration: z.string() }), 'The settings.'),
    errors: [],
  },
  ...keyOperations,
  ...stopOperations,
  ...upstreamOperations,
  ...usageOperations,
} as const satisfies Record<string, Operation>;
