import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { parseCursor } from '@sallyport/protocol';
import type { Step } from '@sallyport/simulator';
import { restartable } from '../support/restart.ts';
import { eventsIn, joined, scripted, until, type Streamed } from '../support/runs.ts';
import { query, startService, userKey, type TestService } from '../support/service.ts';

type Events = Streamed['events'];
type Service = Pick<TestService, 'url'>;

const base = '/api/claude/conversation';
const headers = { authorization: `Bearer ${userKey}` };
const isEnd = ({ event }: Events[number]) => event.type === 'result';
const isDelta = ({ event }: Events[number]) => event.type === 'text_delta' || event.type === 'thinking_delta';

/** Reads a conversation's events after a cursor until there are enough of them or a turn ends, and leaves. */
async function visit(service: Service, id: string, after: string | null, enough: number): Promise<Events> {
  const leave = new AbortController();
  const query = after === null ? '' : `?after=${after}`;
  const response = await fetch(`${service.url}${base}/${id}/events${query}`, { headers, signal: leave.signal });
  assert.equal(response.status, 200);
  let text = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const events = eventsIn(text);
    if (events.length >= enough || events.some(isEnd)) break;
  }
  leave.abort();
  return eventsIn(text).slice(0, enough);
}

/** Reads a turn to its end, leaving after so many events each time and coming back with the last id. */
async function watch(service: Service, id: string, after: string | null, stays: readonly number[]): Promise<Events> {
  const all: Events[number][] = [];
  for (let visits = 0; !all.some(isEnd); visits += 1) {
    const last = all.at(-1)?.id ?? after;
    all.push(...(await visit(service, id, last, stays[visits % stays.length] ?? 1)));
  }
  return all;
}

/** Says something in a conversation, which it starts if need be, with a steady watcher and one that keeps leaving. */
async function watched(service: Service, id: string, steps: readonly Step[], after: string | null = null) {
  const message = scripted(steps);
  const started =
    after === null
      ? query(
          service,
          {
            prompt: message,
            permission_mode: 'acceptEdits',
            max_turns: 5,
            files: [{ path: 'a.txt', content: 'one\n' }],
          },
          { path: `${base}/start?session_id=${id}` },
        )
      : query(service, { session_id: id, message }, { path: `${base}/${id}/continue` });
  await until(async () => (await fetch(`${service.url}${base}/${id}/info`, { headers })).status === 200);
  const watchers = [[Infinity], [1, 3, 2, 7, 1, 1, 5]].map((stays) => watch(service, id, after, stays));
  return { ...(await started), watchers: await Promise.all(watchers) };
}

/** What is the same for all that read: the answer, the thoughts, and every event but pieces. */
function gist(events: Events) {
  const thoughts = events.map((each) =>
    each.event.type === 'thinking_delta'
      ? { ...each, event: { ...each.event, type: 'text_delta' as const, content: each.event.thinking } }
      : { ...each, event: { ...each.event, content: '' } },
  );
  const others = events.filter((each) => !isDelta(each)).map(({ event }) => event);
  return { answer: joined({ events }), thoughts: joined({ events: thoughts }), others };
}

/** Reads again after every id that was seen, and finds exactly what came after it then. */
async function assertResumes(service: Service, id: string, events: Events): Promise<void> {
  let before = { seq: 0, chars: -1 };
  for (const [index, { id: cursor }] of events.entries()) {
    const { seq, chars } = parseCursor(cursor ?? '') ?? assert.fail(`${cursor} is no cursor`);
    assert.ok(seq > before.seq || (seq === before.seq && chars > before.chars), `${cursor} goes on`);
    before = { seq, chars };
    const response = await fetch(`${service.url}${base}/${id}/events?follow=false&after=${cursor}`, { headers });
    const text = await response.text();
    assert.ok(text.endsWith('data: [DONE]\n\n'));
    assert.deepEqual(gist([...events.slice(0, index + 1), ...eventsIn(text)]), gist(events), `after ${cursor}`);
  }
}

const read = { type: 'tool_use' as const, name: 'Read', input: { file_path: '/workspace/a.txt' } };
const long = 'The whole of an answer 😀 of some length, told twice.';
const cutOnce = (chars: number) => ({ fault: { kind: 'cut' as const, after_chars: chars }, fault_times: 1 });
const failing = (chars: number) => ({ kind: 'error_event' as const, error_type: 'api_error', after_chars: chars });

interface Story {
  readonly steps: Step[];
  readonly answer: string;
  readonly thoughts?: string;
  /** Most: nothing is withdrawn when nothing was seen of what a cut destroyed. */
  readonly restarts: number;
}

const stories: Record<string, Story> = {
  'with text while a tool runs': {
    steps: [
      {
        blocks: [
          { type: 'thinking', thinking: 'Hm 😀, I look.' },
          { type: 'text', text: 'I look. ' },
          read,
          { type: 'text', text: 'While it runs, I go on. ' },
        ],
        chunk: 5,
        rate: 30,
      },
      { thinking: 'So that is it.', text: 'It grew: 🎈 of 日本.', chunk: 3, rate: 30 },
    ],
    answer: 'I look. While it runs, I go on. It grew: 🎈 of 日本.',
    thoughts: 'Hm 😀, I look.So that is it.',
    restarts: 0,
  },
  'whose text is cut once': {
    steps: [{ text: long, chunk: 5, rate: 30, ...cutOnce(30) }],
    answer: long,
    restarts: 1,
  },
  'whose text is cut once after thoughts': {
    steps: [{ thinking: 'Let me think.', text: long, chunk: 5, rate: 30, ...cutOnce(40) }],
    answer: long,
    thoughts: 'Let me think.',
    restarts: 1,
  },
  'that is cut once between thoughts and text': {
    steps: [{ thinking: 'Let me think.', text: long, chunk: 5, rate: 30, ...cutOnce(14) }],
    answer: long,
    thoughts: 'Let me think.',
    restarts: 1,
  },
  'whose second text ends in an error once': {
    steps: [
      {
        blocks: [
          { type: 'text', text: 'This stays. ' },
          { type: 'text', text: 'This is lost.' },
        ],
        chunk: 4,
        rate: 30,
        fault: failing(20),
        fault_times: 1,
      },
      { text: 'The rest.' },
    ],
    answer: 'This stays. The rest.',
    restarts: 1,
  },
  'whose text ends in an error that had begun before the tool beside it': {
    steps: [
      {
        blocks: [{ type: 'text', text: 'I look. ' }, read, { type: 'text', text: long }],
        // The text begins at once, so that the hook of the call comes while it is open.
        chunk: 1,
        rate: 50,
        fault: failing(85),
        fault_times: 1,
      },
      { text: 'There is one file.', chunk: 4, rate: 30 },
    ],
    answer: 'I look. There is one file.',
    restarts: 1,
  },
  'whose text beside a tool is cut': {
    steps: [
      {
        blocks: [{ type: 'text', text: 'I look. ' }, read, { type: 'text', text: 'While I wait, this is lost.' }],
        chunk: 6,
        rate: 20,
        ...cutOnce(60),
      },
      { text: 'There is one file.', chunk: 4, rate: 30 },
    ],
    answer: 'I look. There is one file.',
    restarts: 1,
  },
};

describe('two watchers, of whom one keeps leaving, both have the answer once of a turn', { concurrency: 2 }, () => {
  let service: TestService;
  before(async () => {
    service = await startService();
  });
  after(() => service.close());

  for (const [name, { steps, answer, thoughts = '', restarts }] of Object.entries(stories)) {
    test(name, async () => {
      const id = name.replaceAll(/[ ,]/gu, '-');
      const { body, watchers } = await watched(service, id, steps);
      assert.equal(body['success'], true, JSON.stringify(body));
      for (const events of watchers) {
        assert.equal(joined({ events }), answer);
        assert.equal(gist(events).thoughts, thoughts);
        const told = events.filter(({ event }) => event.type === 'restart').length;
        assert.ok(told <= restarts, `${told} restarts`);
        await assertResumes(service, id, events);
      }
      assert.deepEqual(gist(watchers[1] ?? []).others, gist(watchers[0] ?? []).others);
    });
  }

  test('that fails in its text, as far as it came', async () => {
    const { status, watchers } = await watched(service, 'failed', [
      { text: long, chunk: 5, rate: 30, fault: failing(30) },
    ]);
    assert.equal(status, 502);
    const [steady = [], leaving = []] = watchers;
    await assertResumes(service, 'failed', steady);
    await assertResumes(service, 'failed', leaving);
    const { answer } = gist(steady);
    assert.deepEqual([long.startsWith(answer), gist(leaving).answer], [true, answer]);
  });
});

test('every place of a stream can be continued after the service was killed, into the next turn too', async (context) => {
  const service = await restartable(context);
  const first = stories['with text while a tool runs']!;
  const second = stories['whose text is cut once']!;
  const seen = (await watched(service, 'killed', first.steps)).watchers[0] ?? [];
  await service.killAndRestart();
  await assertResumes(service, 'killed', seen);
  const { watchers } = await watched(service, 'killed', second.steps, seen.at(-1)?.id ?? null);
  for (const more of watchers) {
    const all = [...seen, ...more];
    assert.equal(joined({ events: all }), first.answer + second.answer);
    assert.equal(all.filter(({ event }) => event.type === 'user_message').length, 2);
    await assertResumes(service, 'killed', all);
  }
});
