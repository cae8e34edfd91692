import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { join } from 'node:path';
import type { StreamEvent } from '@sallyport/protocol';
import type { RecordedRequest, Step } from '@sallyport/simulator';
import { userKey, type TestService } from './service.ts';

/** A prompt that the simulator answers with these steps. */
export function scripted(steps: readonly Step[], words = ''): string {
  return `${words} <<simulate ${JSON.stringify(steps)}>>`;
}

/** The model calls that hold the word, in the order in which the upstream got them. */
export function callsWith(service: Pick<TestService, 'simulator'>, word: string): RecordedRequest[] {
  return service.simulator.requests.filter(({ body }) => body !== null && JSON.stringify(body).includes(word));
}

/** A request as it is sent, which the caller may leave. */
export function send(service: { url: string }, path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  return fetch(`${service.url}/api/claude/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${userKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });
}

/** One answer of `/stream`, as its text says. */
export interface Streamed {
  readonly status: number;
  readonly headers: Headers;
  /** The body as it came. */
  readonly text: string;
  readonly events: readonly { readonly id: string | null; readonly event: StreamEvent }[];
  /** Data of the last frame. */
  readonly last: string;
}

/** Sends a query to `/stream` and reads the answer to its end. */
export async function stream(service: { url: string }, body: unknown): Promise<Streamed> {
  const response = await send(service, 'stream', body);
  const text = await response.text();
  const { status, headers } = response;
  return { status, headers, text, events: eventsIn(text), last: framesIn(text).at(-1)?.data ?? '' };
}

const framesIn = (text: string) =>
  [...text.matchAll(/^(?:id: (.*)\n)?data: (.*)$/gmu)].map(([, id = null, data = '']) => ({ id, data }));

/** The events of a text of server-sent events; one that was cut at its end counts as not there. */
export function eventsIn(text: string): Streamed['events'] {
  return framesIn(text.slice(0, text.lastIndexOf('\n\n') + 2))
    .filter(({ data }) => data !== '[DONE]')
    .map(({ id, data }) => ({ id, event: JSON.parse(data) as StreamEvent }));
}

/** The types of the events, each run of equal ones told once. */
export function typesOf({ events }: Streamed): string[] {
  const types = events.map(({ event }) => event.type);
  return types.filter((type, index) => type !== types[index - 1]);
}

/** The answer that a client puts together: all text, less what a `restart` withdraws. */
export function joined({ events }: Pick<Streamed, 'events'>): string {
  let answer = '';
  let kept = 0;
  for (const { event } of events) {
    if (event.type === 'text_delta') answer += event.content;
    if (event.type === 'restart') answer = answer.slice(0, kept);
    if (event.type !== 'text_delta' && event.type !== 'thinking_delta') kept = answer.length;
  }
  return answer;
}

/** What an answer of `/query` says, its messages joined. */
export function answerOf(body: Readonly<Record<string, any>>): string {
  const messages = body['messages'] as { role: string; content: string }[];
  return messages
    .filter(({ role }) => role === 'assistant')
    .map(({ content }) => content)
    .join('');
}

/** Rows of the service's database, read beside it. */
export function rows(service: { dataDir: string }, sql: string, ...values: SQLInputValue[]) {
  const database = new DatabaseSync(join(service.dataDir, 'sallyport.db'), { readOnly: true });
  try {
    return database.prepare(sql).all(...values) as Record<string, any>[];
  } finally {
    database.close();
  }
}

/** State of the turn whose request holds the word; undefined when there is none. */
export function turnState(service: { dataDir: string }, word: string): string | undefined {
  return rows(service, 'select state from turns where instr(request, ?) > 0', word)[0]?.['state'];
}

/** Waits until the condition holds; the test's own limit ends it otherwise. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** Does the work for each item, at most `most` at a time, and gives the results in the items' order. */
export async function inBatches<T, R>(most: number, items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < items.length; at = next++) results[at] = await work(items[at] as T);
  };
  await Promise.all(Array.from({ length: most }, worker));
  return results;
}
