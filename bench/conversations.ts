import { setTimeout as delay } from 'node:timers/promises';
import type { Peer } from './peers.ts';
import { firstOf, problemOf, type Round, type Sample } from './row.ts';
import { median } from './statistics.ts';
import { promptWith } from './words.ts';

export interface Conversations {
  readonly peer: Pick<Peer, 'converse' | 'end'>;
  readonly round: Round;
  /** How many, one after the other. */
  readonly count: number;
  /** Turns of each, after the first one, which starts the process and is not counted. */
  readonly turns: number;
  /** Awaited after the first turn: what starting a process leaves to do is over then. */
  readonly settled?: () => Promise<unknown>;
  /** Told before a conversation is ended, when its process is still there. */
  readonly beforeEnd?: () => void;
}

/** Between a turn and the next: what a turn leaves to do is not taken for the beginning of another one. */
const pauseMs = 20;

/**
 * Has conversations turn by turn and gives the times to the first text of all but their first turns; their median is the
 * value. Each turn is answered with the words of all before it, so the histories of all sides are the same.
 */
export async function haveConversations(conversations: Conversations): Promise<Sample> {
  const { peer, round, count, turns, settled, beforeEnd } = conversations;
  const [raw, problems]: [number[], (string | null)[]] = [[], []];
  for (let number = 0; number < count && !problems.some((problem) => problem !== null); number += 1) {
    const words: string[] = [];
    let session: string | null = null;
    while (words.length <= turns) {
      words.push(round.word(number * (turns + 1) + words.length));
      const answer = await peer.converse(promptWith(words.at(-1) ?? ''), session);
      session = answer.session;
      problems.push(problemOf(answer, words));
      // What comes after a wrong answer is wrong too.
      if (problems.at(-1) !== null) break;
      if (words.length > 1 && answer.firstTextMs !== null) raw.push(answer.firstTextMs);
      if (words.length === 1) await settled?.();
      await delay(pauseMs);
    }
    beforeEnd?.();
    if (session) await peer.end(session);
  }
  const right = problems.filter((problem) => problem === null).length;
  const wrong = problems.length - right;
  return { value: wrong === 0 ? median(raw) : null, right, wrong, problems: firstOf(problems), raw };
}
