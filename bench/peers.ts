import { send, sendForEvents, sendForJson, type Call } from './client.ts';

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
  /** Asks something new. `piece` gets the text as it comes. */
  query(prompt: string, piece?: (text: string) => void): Promise<Answer>;
  /** Asks in a conversation: a new one where there is no session yet. */
  converse(prompt: string, session: string | null, piece?: (text: string) => void): Promise<Answer>;
  /** Ends a conversation, and whatever runs for it. */
  end(session: string): Promise<void>;
}

/** What one event tells. */
interface Told {
  readonly text?: string;
  /** The text so far is withdrawn: there is no other in a run that uses no tools. */
  readonly restart?: boolean;
  /** The last event: with which session the conversation goes on, and what is wrong with the run. */
  readonly end?: { readonly session: string; readonly problem: string | null };
}

async function ask(
  call: Call,
  read: (event: Record<string, any>) => Told,
  piece: (text: string) => void = () => {},
): Promise<Answer> {
  const since = performance.now();
  let [text, firstTextMs]: [string, number | null] = ['', null];
  let end: Told['end'] = { session: '', problem: 'the answer has no end' };
  const take = (event: Record<string, any>) => {
    const told = read(event);
    if (told.restart === true) text = '';
    if (told.text !== undefined && told.text !== '') {
      firstTextMs ??= performance.now() - since;
      text += told.text;
      piece(told.text);
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
  const post = (body: object, piece?: (text: string) => void) => ask({ url, method: 'POST', body }, readNaive, piece);
  return {
    query: (prompt, piece) => post({ prompt }, piece),
    converse: (prompt, session, piece) => post({ prompt, ...(session !== null && { session_id: session }) }, piece),
    async end() {
      // Nothing runs between its requests.
    },
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

/**
 * A program that keeps a live process of Claude Code for each conversation: `POST /` answers as the naive peer does, or,
 * when it is `told`, with an `Answer` that it has timed itself; `POST /end` ends a conversation.
 */
export function livePeer(url: string, answers: 'events' | 'told'): Peer {
  const { converse } = naivePeer(url);
  return {
    query: () => Promise.reject(new Error('this peer has conversations only')),
    converse:
      answers === 'events'
        ? converse
        : async (prompt, session) =>
            (await sendForJson({ url, method: 'POST', body: { prompt, session_id: session } })).body as Answer,
    async end(session) {
      await sendForJson({ url: `${url}/end`, method: 'POST', body: { session_id: session } });
    },
  };
}

/** What both sides run: only reading, with the same tools. */
export const runOptions = {
  permission_mode: 'readOnly',
  allowed_tools: ['Read', 'Grep', 'Glob'],
  max_turns: 3,
} as const;

/** The service, asked with a key. What is in `more` goes with every query and every beginning of a conversation. */
export function ourPeer(service: string, key: string, more: { readonly project_path?: string } = {}): Peer {
  const headers = { authorization: `Bearer ${key}`, accept: 'text/event-stream' };
  const post = (path: string, body: object, piece?: (text: string) => void) =>
    ask({ url: `${service}/api/claude/${path}`, method: 'POST', headers, body }, readOurs, piece);
  return {
    query: (prompt, piece) => post('stream', { prompt, ...runOptions, ...more }, piece),
    converse: (message, session, piece) =>
      session === null
        ? post('conversation/start', { prompt: message, ...runOptions, ...more }, piece)
        : post(`conversation/${session}/continue`, { session_id: session, message }, piece),
    async end(session) {
      const url = `${service}/api/claude/conversation/${session}`;
      const status = await send({ url, method: 'DELETE', headers }, () => undefined);
      if (status !== 200) throw new Error(`a conversation was not deleted: status ${status}`);
    },
  };
}
