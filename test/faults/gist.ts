import type { Told } from './history.ts';

/** What is the same for all that read a log: the answer, the thoughts, and every event but pieces. */
export interface Gist {
  answer: string;
  thoughts: string;
  others: string[];
}

/** Events that a reader may or may not meet: where a turn stands, which is not of the log, and what the user said. */
const isPassing = ({ event }: Told) =>
  event.type === 'user_message' || (event.type === 'status' && event.status !== 'tool_denied');

/** Puts events together as a client does: all text, less what a `restart` withdraws. */
export function gistOf(events: readonly Told[]): Gist {
  const gist: Gist = { answer: '', thoughts: '', others: [] };
  let kept = { answer: 0, thoughts: 0 };
  for (const told of events) {
    const { event } = told;
    if (isPassing(told)) continue;
    if (event.type === 'text_delta') gist.answer += event.content;
    else if (event.type === 'thinking_delta') gist.thoughts += event.thinking;
    else {
      if (event.type === 'restart') {
        gist.answer = gist.answer.slice(0, kept.answer);
        gist.thoughts = gist.thoughts.slice(0, kept.thoughts);
      }
      // How often an answer was withdrawn depends on what was seen of it.
      else gist.others.push(JSON.stringify(event));
      kept = { answer: gist.answer.length, thoughts: gist.thoughts.length };
    }
  }
  return gist;
}

export const isSame = (one: Gist, other: Gist): boolean => JSON.stringify(one) === JSON.stringify(other);
