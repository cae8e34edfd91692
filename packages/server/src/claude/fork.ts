import type { ForkEnd, TranscriptEntry, TranscriptStore } from '../engine/ports.ts';
import type { Jails } from './jail.ts';
import { keptName } from './kept-files.ts';

/** Copies the transcript of a session, sub-transcripts included, and its kept files to a session that has none. */
export async function forkSession(store: TranscriptStore, jails: Jails, from: ForkEnd, to: ForkEnd): Promise<void> {
  const { tenant, session } = from;
  for (const subpath of ['', ...(await store.subpaths(tenant, session))]) {
    const entries = (await store.load({ tenant, session, subpath })) ?? [];
    const copies = entries.map((entry) => renamed(entry, session, to.session));
    await store.append({ tenant: to.tenant, session: to.session, subpath }, copies);
  }
  await jails.copyKept(keptName(tenant, session), keptName(to.tenant, to.session));
}

/** Entries name their session. */
function renamed(entry: TranscriptEntry, from: string, to: string): TranscriptEntry {
  return JSON.parse(JSON.stringify(entry), (key, value: unknown) =>
    key === 'sessionId' && value === from ? to : value,
  ) as TranscriptEntry;
}
