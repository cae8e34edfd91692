import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { chainStart, verifyChain } from '../../packages/server/src/compose.ts';
import { canonicalHash } from '../../packages/server/src/engine/tool-inputs.ts';
import { auditLines } from '../support/admin.ts';
import { eventsIn, inBatches } from '../support/runs.ts';
import { marksFile, saidIn } from './brain.ts';
import {
  wordsIn,
  type AuditRow,
  type Figure,
  type History,
  type Observed,
  type Operation,
  type ReadLog,
  type Told,
  type ToolRun,
  type TurnRow,
  type UpstreamCall,
} from './history.ts';
import type { Done } from './load.ts';
import type { Watch } from './watch.ts';
import { places, tenants, type World } from './world.ts';

/** Cursors of an operation after which the log is read again. */
const cursorsEach = 4;
const mostLogs = 60;
/** Of the clients' timeout, with what recovery may take. */
const longestTurnMs = 180_000;
/** Longest answer of `/livez` on a machine that clients, upstream and service share. */
const liveMs = 5000;

const json = (text: string | null): Record<string, any> | null =>
  text === null ? null : (JSON.parse(text) as Record<string, any>);

/** The word that a prompt names as its own. */
const wordOf = (text: string): string | null => /My word is (fault-[a-z]+-[0-9a-f]{12})\./u.exec(text)?.[1] ?? null;

/** Puts together all that is known of a run. The servers must serve, and nothing may be under way. */
export async function observe(
  world: World,
  history: History,
  watch: Watch,
  done: Done,
  found: { figures: Figure[]; ms: number },
): Promise<Observed> {
  const turns = await turnsOf(world);
  const { operations } = history;
  for (const operation of operations)
    operation.conversation ??= turns.find(({ word }) => word !== null && word === operation.word)?.conversation ?? null;
  const lines = await auditLines(world.serving);
  const events = (await world.rows('select * from events order by tenant, conversation, seq')).map((row) => ({
    tenant: row['tenant'],
    conversation: String(row['conversation']),
    seq: row['seq'],
    turn: row['turn'],
    at: row['at'],
    type: row['type'],
    payload: json(row['payload']) ?? {},
  }));
  const logs = await readLogs(world, operations, turns);
  return {
    tenants: [...tenants],
    operations,
    calls: callsOf(world),
    logs,
    turns,
    events,
    ...(await booksOf(world)),
    audit: lines.map((line): AuditRow => ({
      seq: line['seq'],
      at: line['at'],
      tenant: line['tenant'],
      action: line['action'],
      turn: line['ref']?.['turn'] ?? null,
      subject: line['subject'],
      details: line['details'],
    })),
    auditBrokenAt: verifyChain(lines as Parameters<typeof verifyChain>[0], chainStart),
    toolRuns: await marksIn(world),
    gated: done.gated,
    finals: done.finals,
    watched: watch.watched,
    leftovers: watch.leftovers,
    probes: watch.probes,
    liveMs,
    figures: found.figures,
    figuresMs: found.ms,
    budgets: { ...world.budgets },
    places,
    secrets: world.secrets,
    surroundings: [...watch.surroundings],
    lines: world.nodes.flatMap((node) => node.lines()),
    outages: watch.outages,
    frozen: watch.frozen,
    undecidable: watch.undecidable,
    longestTurnMs,
  };
}

async function turnsOf(world: World): Promise<TurnRow[]> {
  const rows = await world.rows('select * from turns');
  return rows.map((row) => ({
    tenant: row['tenant'],
    id: row['id'],
    conversation: String(row['conversation']),
    epoch: row['epoch'],
    state: row['state'],
    word: wordOf(String(row['request'])),
    stopReason: json(row['result'])?.['stop_reason'] ?? null,
    acceptedAt: row['accepted_at'],
    endedAt: row['ended_at'],
  }));
}

/** Approvals and usage. */
async function booksOf(world: World): Promise<Pick<Observed, 'approvals' | 'usage'>> {
  const approvals = (await world.rows('select * from approvals')).map((row) => ({
    tenant: row['tenant'],
    id: row['id'],
    turn: row['turn'],
    toolUseId: row['tool_use_id'],
    status: row['status'],
    decidedAt: row['decided_at'],
    expiresAt: row['expires_at'],
    inputHashes: [
      String(json(row['call'])?.['inputHash']),
      ...[json(row['decision'])?.['input'] ?? []].flat().map(canonicalHash),
    ],
  }));
  const usage = (await world.rows('select * from usage')).map((row) => ({
    tenant: row['tenant'],
    turn: row['turn'],
    at: row['at'],
    status: row['status'],
    inputTokens: row['input_tokens'] + row['cache_read_tokens'] + row['cache_write_tokens'],
    outputTokens: row['output_tokens'],
    costUsd: row['cost_usd'] === null ? null : Number(row['cost_usd']),
  }));
  return { approvals, usage };
}

function callsOf({ simulator }: World): UpstreamCall[] {
  return simulator.requests
    .filter(({ body, path }) => body !== null && path.startsWith('/v1/messages') && !path.includes('count_tokens'))
    .map(({ at, finishedAt, outcome, body, headers }) => ({
      at,
      finishedAt,
      outcome,
      words: wordsIn(JSON.stringify(body)),
      word: body === null ? null : wordOf(saidIn(body).at(-1) ?? ''),
      credential: String(headers['x-api-key']),
    }));
}

/** What commands left in the projects: each line is a word and the moment in nanoseconds. */
async function marksIn(world: World): Promise<ToolRun[]> {
  const projects = await readdir(world.root);
  const texts = await Promise.all(
    projects.map((name) => readFile(join(world.root, name, marksFile), 'utf8').catch(() => '')),
  );
  return texts
    .join('\n')
    .split('\n')
    .flatMap((line) => {
      const [word = '', at = ''] = line.split(' ');
      return /^\d+$/u.test(at) ? [{ word, at: Number(at.slice(0, -6)) }] : [];
    });
}

/** Reads the logs that clients followed, as a whole and after some of the cursors they were given. */
async function readLogs(world: World, operations: readonly Operation[], turns: readonly TurnRow[]): Promise<ReadLog[]> {
  const stored = new Set(turns.map(({ tenant, conversation }) => `${tenant} ${conversation}`));
  const followed = operations.filter(
    ({ events, conversation, tenant }) => events.length > 0 && stored.has(`${tenant} ${conversation}`),
  );
  const groups = [...Map.groupBy(followed, ({ tenant, conversation }) => `${tenant} ${conversation}`).values()].slice(
    -mostLogs,
  );
  return await inBatches(4, groups, async (own): Promise<ReadLog> => {
    const { tenant, conversation } = own[0] as Operation;
    const read = (after: string | null) => readLog(world, tenant, conversation ?? '', after);
    const cursors = new Set(own.flatMap(cursorsOf));
    const after: ReadLog['after'] = {};
    for (const cursor of cursors) after[cursor] = await read(cursor);
    return { tenant, conversation: conversation ?? '', whole: (await read(null)) ?? [], after };
  });
}

/** The cursor that it began after, the last one, and some in between. */
function cursorsOf({ path, what, events }: Operation): string[] {
  const ids = events.flatMap(({ id }) => (id === null ? [] : [id]));
  const step = Math.max(1, Math.floor(ids.length / cursorsEach));
  const after = what === 'follow' ? new URLSearchParams(path.split('?')[1]).get('after') : null;
  return [...(after === null ? [] : [after]), ...ids.filter((_, index) => index % step === 0), ...ids.slice(-1)];
}

async function readLog(
  world: World,
  tenant: string,
  conversation: string,
  after: string | null,
): Promise<Told[] | null> {
  const query = after === null ? '' : `&after=${after}`;
  const response = await fetch(
    `${world.serving.url}/api/claude/conversation/${conversation}/events?follow=false${query}`,
    {
      headers: { authorization: `Bearer ${world.keys[tenant]}` },
    },
  );
  const text = await response.text();
  return response.ok ? [...eventsIn(text)] : null;
}
