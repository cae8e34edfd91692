import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import { auditPage } from '@sallyport/protocol';
import { chainStart, verifyChain, type ChainLink } from '../compose.ts';
import type { Settings } from '../config/settings.ts';
import type { Terminal } from './serve.ts';

const pageSize = 1000;

/**
 * Reads the audit log of the service that runs with these settings and checks that every line is chained to the one
 * before. Prints the last place and hash, to be kept elsewhere: only they tell when lines are cut off the end. Exit code
 * 1 when a line does not fit.
 */
export async function verifyAudit(settings: Settings, { out, error }: Terminal): Promise<number> {
  const key = settings.masterKey ?? (await readFile(join(settings.dataDir, 'admin-key'), 'utf8')).trim();
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  let last: ChainLink = chainStart;
  for (;;) {
    const address = `http://${host}:${settings.port}/api/admin/audit?after=${last.seq}&limit=${pageSize}`;
    const response = await fetch(address, { headers: { authorization: `Bearer ${key}` } });
    if (!response.ok) throw new Error(`the service answers ${response.status} at ${host}:${settings.port}`);
    const { items, next_cursor: next } = auditPage.parse(await response.json());
    const broken = verifyChain(items, last);
    if (broken !== null) {
      error.write(`sallyport: line ${broken} of the audit log is not what was written there\n`);
      return 1;
    }
    last = items.at(-1) ?? last;
    if (next === null) break;
  }
  out.write(`The audit log is whole: ${last.seq} lines, the last hash is ${last.hash}\n`);
  return 0;
}
