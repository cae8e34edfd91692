import { sendForEvents, type Call } from './client.ts';

/** What one prompt gave. */
export interface Answer {
  readonly text: string;
  /** From the sending of the request to the first text, in milliseconds; null when there was none. */
  readonly firstTextMs: number | null;
  /** With which the conversation goes on. */
  readonly session: string;
  /** Why it is no good answer, or null. */
  readonly problem: string | null;
}

/** One side of a comparison: something that answers prompts. */
export interface Peer {
  /** Asks something new. */
  query(prompt: string): Promise<Answer>;
  /** Asks in a conversation: a new one where there is no session yet. */
  converse(prompt: string, session: string | null): Promise<Answer>;
}

/** What one event tells. */
interface Told {
  readonly text?: string;
  /** The text so far is withdrawn: there is no other in a run that uses no tools. */
  readonly restart?: boolean;
  /** The last event: with which session the conversation goes on, and what is wrong with the run. */
  readonly end?: { readonly session: string; readonly problem: string | null };
}

async function ask(call: Call, read: (event: Record<string, any>) => Told): Promise<Answer> {
  const since = performance.now();
  let [text, firstTextMs]: [string, number | null] = ['', null];
  let end: Told['end'] = { session: '', problem: 'the answer has no end' };
  const take = (event: Record<string, any>) => {
    const told = read(event);
    if (told.restart === true) text = '';
    if (told.text !== undefined && told.text !== '') {
      firstTextMs ??= performance.now() - since;
      text += told.text;
    }
    end = told.end ?? end;
  };
  try {
    const status = await sendForEvents(call, take);
    return { text, firstTextMs, ...end, problem: status === 200 ? end.problem : `status ${status}` };
  } catch (error) {
    return { text, firstTextMs, session: '', problem: String(error) };
  }
}

function readNaive(event: Record<string, any>): Told {
  if (event['type'] === 'stream_event') return { text: event['event'].delta?.text };
  if (event['type'] === 'error') return { end: { session: '', problem: event['message'] } };
  if (event['type'] !== 'result') return {};
  const { session_id: session, is_error, subtype } = event;
  return { end: { session, problem: is_error || subtype !== 'success' ? `the run ended with ${subtype}` : null } };
}

export function naivePeer(url: string): Peer {
  const post = (body: object) => ask({ url, method: 'POST', body }, readNaive);
  return {
    query: (prompt) => post({ prompt }),
    converse: (prompt, session) => post({ prompt, ...(session !== null && { session_id: session }) }),
  };
}

function readOurs(event: Record<string, any>): Told {
  if (event['type'] === 'text_delta') return { text: event['content'] };
  if (event['type'] === 'restart') return { restart: true };
  if (event['is_complete'] !== true) return {};
  const { session_id: session, success, error, cached } = event;
  const failed = success === true ? null : `the run failed: ${error}`;
  return {
    end: { session, problem: cached === false || cached === undefined ? failed : 'the answer is from the cache' },
  };
}

/** What both sides run: only reading, with the same tools. */
export const runOptions = {
  permission_mode: 'readOnly',
  allowed_tools: ['Read', 'Grep', 'Glob'],
  max_turns: 3,
} as const;

export function ourPeer(service: string, key: string): Peer {
  const headers = { authorization: `Bearer ${key}`, accept: 'text/event-stream' };
  const post = (path: string, body: object) =>
    ask({ url: `${service}/api/claude/${path}`, method: 'POST', headers, body }, readOurs);
  return {
    query: (prompt) => post('stream', { prompt, ...runOptions }),
    converse: (message, session) =>
      session === null
        ? post('conversation/start', { prompt: message, ...runOptions })
        : post(`conversation/${session}/continue`, { session_id: session, message }),
  };
}
