import type { LogEventBody } from '@sallyport/protocol';
import type { Selectable, Transaction } from 'kysely';
import type {
  Approval,
  ApprovalDecision,
  ApprovalFilter,
  ApprovalStore,
  AuditEntry,
  TurnRef,
} from '../engine/ports.ts';
import { appendAudit } from './audit.ts';
import { laneOf, toJson, type Database } from './database.ts';
import { appendEvents, prepare } from './log.ts';
import { isBefore } from './rows.ts';
import type { ApprovalTable, Schema } from './schema.ts';

/** The inbox of approvals in SQL. */
export function createApprovalStore(database: Database): ApprovalStore {
  return {
    request: (ref, approval, event) => request(database, ref, approval, event),
    async get(tenant, id) {
      const row = await database.read
        .selectFrom('approvals')
        .selectAll()
        .where('tenant', '=', tenant)
        .where('id', '=', id)
        .executeTakeFirst();
      return row === undefined ? null : toApproval(row);
    },
    list: (filter) => list(database, filter),
    async ofTurn(tenant, turn) {
      const rows = await database.read
        .selectFrom('approvals')
        .selectAll()
        .where('tenant', '=', tenant)
        .where('turn', '=', turn)
        .orderBy('created_at')
        .orderBy('id')
        .execute();
      return rows.map(toApproval);
    },
    decide: (tenant, id, made, audit) => decide(database, tenant, id, made, audit),
    expire: (now, limit) => expire(database, now, limit),
    settledOf: (approvals) => settledOf(database, approvals),
    rules: (tenant, conversation) => rules(database, tenant, conversation),
  };
}

async function request(
  database: Database,
  ref: TurnRef,
  approval: Approval,
  event: LogEventBody,
): ReturnType<ApprovalStore['request']> {
  const prepared = prepare(event);
  const row = { ...toRow(approval), tenant: ref.tenant, conversation: ref.conversation, turn: ref.turn };
  const write = async (sql: Transaction<Schema>) => {
    const known = await sql
      .selectFrom('approvals')
      .selectAll()
      .where('tenant', '=', ref.tenant)
      .where('turn', '=', ref.turn)
      .where('tool_use_id', '=', approval.toolUseId)
      .executeTakeFirst();
    if (known !== undefined) {
      await appendEvents(sql, ref, approval.createdAt, [], known.status === 'pending' ? 'waiting' : undefined);
      return { approval: toApproval(known), event: null };
    }
    const [appended] = await appendEvents(sql, ref, approval.createdAt, [prepared], 'waiting');
    await sql.insertInto('approvals').values(row).execute();
    return { approval: toApproval(row), event: appended ?? null };
  };
  return database.write(write, laneOf(ref.tenant, ref.conversation));
}

async function list(database: Database, filter: ApprovalFilter): Promise<Approval[]> {
  const { tenant, key, status, before, limit } = filter;
  let query = database.read
    .selectFrom('approvals')
    .selectAll()
    .where('tenant', '=', tenant)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit);
  if (key !== null) query = query.where('key', '=', key);
  if (status !== null) query = query.where('status', '=', status);
  if (before !== null) query = query.where(isBefore(before));
  return (await query.execute()).map(toApproval);
}

async function decide(
  database: Database,
  tenant: string,
  id: string,
  { status, at, by, decision }: Parameters<ApprovalStore['decide']>[2],
  audit?: AuditEntry,
): Promise<Approval | null> {
  const json = toJson(decision);
  const write = async (sql: Transaction<Schema>) => {
    const decided = await sql
      .updateTable('approvals')
      .set({ status, decided_at: at, decided_by: by, decision: json })
      .where('tenant', '=', tenant)
      .where('id', '=', id)
      .where('status', '=', 'pending')
      .where('expires_at', '>', at)
      .returningAll()
      .executeTakeFirst();
    if (decided !== undefined && audit !== undefined) await appendAudit(sql, [audit]);
    return decided;
  };
  const row = await database.write(write, laneOf(tenant, id));
  return row === undefined ? null : toApproval(row);
}

/** Who settles what no human decided. */
const service = 'service';

async function expire(database: Database, now: number, limit: number): Promise<Approval[]> {
  const rows = await database.write((sql) =>
    sql
      .updateTable('approvals')
      .set({ status: 'expired', decided_at: now, decided_by: service })
      .where('status', '=', 'pending')
      .where('expires_at', '<=', now)
      .where((where) =>
        where(
          where.refTuple('tenant', 'id'),
          'in',
          where
            .selectFrom('approvals as due')
            .select(['due.tenant', 'due.id'])
            .where('due.status', '=', 'pending')
            .where('due.expires_at', '<=', now)
            .orderBy('due.expires_at')
            .limit(limit)
            .$asTuple('tenant', 'id'),
        ),
      )
      .returningAll()
      .execute(),
  );
  return rows.map(toApproval);
}

/** Most approvals that one statement asks for. */
const perQuery = 200;

async function settledOf(
  database: Database,
  approvals: readonly Pick<Approval, 'tenant' | 'id'>[],
): Promise<Approval[]> {
  const settled: Approval[] = [];
  for (let from = 0; from < approvals.length; from += perQuery) {
    const rows = await database.read
      .selectFrom('approvals')
      .selectAll()
      .where((where) =>
        where.or(
          approvals
            .slice(from, from + perQuery)
            .map(({ tenant, id }) => where.and([where('tenant', '=', tenant), where('id', '=', id)])),
        ),
      )
      .where('status', '!=', 'pending')
      .execute();
    settled.push(...rows.map(toApproval));
  }
  return settled;
}

/** Settles the pending approvals of a turn that no human will decide. */
export async function settlePending(
  sql: Transaction<Schema>,
  tenant: string,
  turn: string,
  status: 'expired' | 'cancelled',
  at: number,
): Promise<void> {
  await sql
    .updateTable('approvals')
    .set({ status, decided_at: at, decided_by: service })
    .where('tenant', '=', tenant)
    .where('turn', '=', turn)
    .where('status', '=', 'pending')
    .execute();
}

async function rules(database: Database, tenant: string, conversation: string): Promise<string[]> {
  const rows = await database.read
    .selectFrom('approvals')
    .select('decision')
    .where('tenant', '=', tenant)
    .where('conversation', '=', conversation)
    .where('status', '=', 'allowed')
    .orderBy('decided_at')
    .execute();
  const given = rows.map(({ decision }) => toDecision(decision)?.rule ?? null);
  return [...new Set(given.filter((rule) => rule !== null))];
}

function toRow(approval: Approval): ApprovalTable {
  const { kind, tool, input, inputHash, diff, reason, decision } = approval;
  return {
    tenant: approval.tenant,
    id: approval.id,
    conversation: approval.conversation,
    turn: approval.turn,
    tool_use_id: approval.toolUseId,
    key: approval.key,
    call: toJson({ kind, tool, input, inputHash, diff, reason }),
    status: approval.status,
    created_at: approval.createdAt,
    expires_at: approval.expiresAt,
    decided_at: approval.decidedAt,
    decided_by: approval.decidedBy,
    decision: decision === null ? null : toJson(decision),
  };
}

function toApproval(row: Selectable<ApprovalTable>): Approval {
  const { kind, tool, input, inputHash, diff, reason } = JSON.parse(row.call) as Approval;
  return {
    tenant: row.tenant,
    id: row.id,
    conversation: row.conversation,
    turn: row.turn,
    toolUseId: row.tool_use_id,
    key: row.key,
    kind,
    tool,
    input,
    inputHash,
    diff,
    reason,
    status: row.status,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    decidedAt: row.decided_at,
    decidedBy: row.decided_by,
    decision: toDecision(row.decision),
  };
}

const toDecision = (json: string | null): ApprovalDecision | null =>
  json === null ? null : (JSON.parse(json) as ApprovalDecision);
