import type { AuditLine } from '@sallyport/protocol';
import { chainStart, verifyChain, type ChainLink } from '../compose.ts';
import type { Settings } from '../config/settings.ts';
import { clientOf } from './client.ts';
import type { Terminal } from './command.ts';

const pageSize = 1000;

/**
 * Reads the audit log of the service that runs with these settings and checks that every line is chained to the one
 * before. Prints the last place and hash, to be kept elsewhere: only they tell when lines are cut off the end. Exit code
 * 1 when a line does not fit.
 */
export async function verifyAudit(settings: Settings, { out, error }: Terminal): Promise<number> {
  const client = await clientOf(settings);
  let last: ChainLink = chainStart;
  for (;;) {
    const query = { after: last.seq, limit: pageSize };
    const page = await client.call<{ items: AuditLine[]; next_cursor: string | null }>('readAudit', { query });
    const broken = verifyChain(page.items, last);
    if (broken !== null) {
      error.write(`sallyport: line ${broken} of the audit log is not what was written there\n`);
      return 1;
    }
    last = page.items.at(-1) ?? last;
    if (page.next_cursor === null) break;
  }
  out.write(`The audit log is whole: ${last.seq} lines, the last hash is ${last.hash}\n`);
  return 0;
}
