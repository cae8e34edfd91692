import { sendForJson } from './client.ts';
import type { Stage } from './stage.ts';

/** How watchers are opened. */
export interface Opening {
  readonly kind: 'stream' | 'socket';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly count: number;
  /** What a socket says first. */
  readonly first?: object;
}

/** What watchers were told. */
export interface Seen {
  /** How many were told all ends of turns that were waited for, and how many were not. */
  readonly count: number;
  readonly late: number;
  /** The last answer, as told to each of them: one text where all were told the same. */
  readonly texts: readonly string[];
}

/** Watchers in a process of their own. */
export interface Watchers {
  /** Opens some, and resolves when each was told something. */
  open(opening: Opening): Promise<void>;
  /** Resolves when all were told so many ends of turns since they were opened, or after a minute. */
  collect(ends: number): Promise<Seen>;
  close(): Promise<void>;
}

/** The watchers of a stage: none at first. */
export async function watchersOf(stage: Stage): Promise<Watchers> {
  return await stage.once('watchers', async () => {
    const { url } = await stage.start('watchers', 'bench/watch/main.ts', { env: {} });
    const ask = async (path: string, body: object) => {
      const answer = await sendForJson({ url: `${url}/${path}`, method: 'POST', body });
      if (answer.status !== 200) throw new Error(`watchers: ${JSON.stringify(answer.body)}`);
      return answer.body;
    };
    return {
      open: async (opening) => void (await ask('open', opening)),
      collect: async (ends) => (await ask('collect', { ends })) as Seen,
      close: async () => void (await ask('close', {})),
    };
  });
}

/** How the service lets somebody watch a conversation. */
export function openingOf({ service }: Stage, kind: Opening['kind'], session: string): Omit<Opening, 'count'> {
  const headers = { authorization: `Bearer ${service.keys[0]}` };
  if (kind === 'stream') return { kind, url: `${service.url}/api/claude/conversation/${session}/events`, headers };
  const url = `${service.url.replace('http', 'ws')}/ws/bench`;
  return { kind, url, headers, first: { type: 'resume', session_id: session } };
}
