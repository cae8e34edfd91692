import assert from 'node:assert/strict';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { errorBody, parseCursor, runResult, streamEvent } from '@sallyport/protocol';
import type { Step } from '@sallyport/simulator';
import { answerOf, joined, rows, scripted, send, stream, typesOf, type Streamed } from '../support/runs.ts';
import { query, startService, type TestService } from '../support/service.ts';

let service: TestService;
let project_path: string;
before(async () => {
  service = await startService();
  project_path = join(service.root, 'streamed');
  await mkdir(project_path);
  await chmod(project_path, 0o777);
  await writeFile(join(project_path, 'seen.txt'), 'what was there\n');
});
after(() => service.close());

const timeout = 300;
const text = 'It grew. Ünïcödé of 日本 and 🎈 too.';

let stories = 0;
/** Tools of which one is denied, thoughts, and text before, between and after. */
function story(): Step[] {
  const made = `made-${(stories += 1)}.txt`;
  const at = (name: string) => join(project_path, name);
  return [
    {
      thinking: 'First I look.',
      text: 'I look. ',
      tools: [{ name: 'Read', input: { file_path: at('seen.txt') }, id: 'toolu_read' }],
    },
    {
      text: 'I write. ',
      tools: [{ name: 'Write', input: { file_path: '/etc/no.txt', content: 'x' }, id: 'toolu_out' }],
    },
    { tools: [{ name: 'Write', input: { file_path: at(made), content: 'made\n' }, id: 'toolu_write' }] },
    { thinking: 'So that is done.', text, chunk: 3 },
  ];
}

const request = (steps: readonly Step[], rest: object = {}) => ({
  prompt: scripted(steps),
  project_path,
  permission_mode: 'acceptEdits',
  max_turns: 5,
  timeout,
  ...rest,
});

/** What every stream promises, whatever ran. */
function assertWellFormed({ status, headers, text: body, events, last }: Streamed): void {
  assert.equal(status, 200);
  assert.match(headers.get('content-type') ?? '', /^text\/event-stream/u);
  assert.equal(headers.get('cache-control'), 'no-cache');
  assert.equal(headers.get('x-accel-buffering'), 'no');
  assert.ok(headers.get('x-request-id'));
  for (const frame of body.split('\n\n').slice(0, -1)) assert.match(frame, /^(?:: .*|(?:id: .+\n)?data: .+)$/u);
  assert.ok(body.endsWith('data: [DONE]\n\n'));
  assert.equal(last, '[DONE]');
  for (const { event } of events) assert.deepEqual(streamEvent.parse(event), event);
  for (const [index, { event }] of events.entries()) assert.equal(event.is_complete, index === events.length - 1);
  let before = { seq: 0, chars: 0 };
  for (const { id } of events) {
    const cursor = parseCursor(id ?? '');
    assert.ok(cursor, `${id} is a cursor`);
    assert.ok(cursor.seq > before.seq || (cursor.seq === before.seq && cursor.chars > before.chars), `${id} goes on`);
    before = cursor;
  }
}

describe('a stream', { concurrency: 3 }, () => {
  test('tells a run with thoughts, texts, tools and a denial in order', async () => {
    const streamed = await stream(service, request(story()));
    assertWellFormed(streamed);
    assert.deepEqual(typesOf(streamed), [
      'thinking_delta',
      'text_delta',
      'tool_start',
      'tool_end',
      'text_delta',
      'status',
      'tool_start',
      'tool_end',
      'thinking_delta',
      'text_delta',
      'result',
    ]);
    assert.equal(joined(streamed), `I look. I write. ${text}`);
    const events = streamed.events.map(({ event }) => event);
    const thoughts = events.flatMap((event) => (event.type === 'thinking_delta' ? [event.thinking] : []));
    assert.equal(thoughts.join(''), 'First I look.So that is done.');
    const started = events.flatMap((event) => (event.type === 'tool_start' ? [[event.tool_use_id, event.name]] : []));
    assert.deepEqual(started, [
      ['toolu_read', 'Read'],
      ['toolu_write', 'Write'],
    ]);
    const ended = events.flatMap((event) => (event.type === 'tool_end' ? [[event.tool_use_id, event.ok]] : []));
    assert.deepEqual(ended, [
      ['toolu_read', true],
      ['toolu_write', true],
    ]);
    const [denied] = events.filter((event) => event.type === 'status');
    assert.deepEqual([denied?.status, denied?.tool_use_id, denied?.name], ['tool_denied', 'toolu_out', 'Write']);
    for (const event of events) assert.equal(event.role, roleOf(event.type));
    for (const event of events.filter(({ type }) => type !== 'text_delta')) assert.equal(event.content, '');
  });

  test('says in its result what an answer of /query says', async () => {
    const streamed = await stream(service, request(story()));
    const { body } = await query(service, request(story()));
    assert.equal(joined(streamed), answerOf(body));
    const { event } = streamed.events.at(-1)!;
    assert.ok(event.type === 'result');
    assert.equal(event.code, null);
    const result = { ...event, error: event.error, tools_used: event.tools_used };
    const shown = runResult.parse(result);
    assert.deepEqual(Object.keys(shown).toSorted(), Object.keys(runResult.shape).toSorted());
    for (const key of [
      'success',
      'stop_reason',
      'error',
      'model',
      'tools_used',
      'cached',
      'structured_output',
    ] as const)
      assert.deepEqual(shown[key], body[key], key);
    assert.deepEqual(shown.permission_denials, body['permission_denials']);
    const stored = rows(service, 'select result from turns where conversation = ?', shown.session_id);
    assert.deepEqual(JSON.parse(stored[0]?.['result']), shown);
    assert.equal(streamed.headers.get('x-request-id'), shown.request_id);
  });

  test('tells a long answer piece by piece while the model writes', async () => {
    const long = 'word after word, '.repeat(100);
    const response = await send(service, 'stream', request([{ text: long, rate: 200 }]));
    let pieces = 0;
    let all = '';
    for await (const chunk of response.body!) {
      pieces += 1;
      all += Buffer.from(chunk as Uint8Array).toString();
    }
    assert.ok(pieces > 2, `${pieces} pieces`);
    const deltas = [...all.matchAll(/"content":"((?:[^"\\]|\\.)*)"/gu)].map(([, content]) => content);
    assert.equal(deltas.join(''), long);
  });

  test('of a run that was cut by its turns is a stream with that result', async () => {
    const streamed = await stream(service, request(story(), { max_turns: 1 }));
    assertWellFormed(streamed);
    const { event } = streamed.events.at(-1)!;
    assert.ok(event.type === 'result');
    assert.deepEqual([event.success, event.stop_reason, event.code], [false, 'max_turns', null]);
    assert.ok(event.error);
    assert.equal(joined(streamed), 'I look. ');
  });

  test('that fails after its first event ends with an event that says so', async () => {
    const step: Step = { text: 'word after word, '.repeat(10), rate: 50, fault: { kind: 'cut', after_chars: 100 } };
    const streamed = await stream(service, request([step]));
    assertWellFormed(streamed);
    const { event } = streamed.events.at(-1)!;
    assert.ok(event.type === 'result');
    assert.deepEqual([event.success, event.stop_reason, event.code], [false, 'error', 'upstream_error']);
    assert.ok(event.error);
  });

  test('continues for no one: the log holds the same events', async () => {
    const streamed = await stream(service, request(story()));
    const { event, id } = streamed.events.at(-1)!;
    assert.ok(event.type === 'result');
    const log = rows(service, 'select seq, type from events where conversation = ? order by seq', event.session_id);
    assert.deepEqual(
      log.map(({ type }) => type),
      [
        'user_message',
        'thinking',
        'text',
        'tool_start',
        'tool_end',
        'text',
        'tool_denied',
        'tool_start',
        'tool_end',
        'thinking',
        'text',
        'result',
      ],
    );
    assert.equal(id, `${log.at(-1)?.['seq']}.0`);
  });
});

function roleOf(type: string): string {
  return ['text_delta', 'thinking_delta', 'tool_start', 'tool_end'].includes(type) ? 'assistant' : 'system';
}

describe('what fails before the first event is a plain answer with its status', () => {
  const refusals: readonly [string, unknown, number, string][] = [
    ['a field out of bounds', { prompt: 'x', max_turns: 99 }, 422, 'validation_failed'],
    ['a model the key may not use', { prompt: 'x', model: 'gpt-9' }, 403, 'model_not_allowed'],
    ['a project outside', { prompt: 'x', project_path: '/etc' }, 403, 'path_not_allowed'],
    [
      'a final failure of the upstream',
      { prompt: scripted([{ fault: { kind: 'status', status: 400 } }]) },
      502,
      'upstream_rejected',
    ],
  ];
  for (const [name, body, status, code] of refusals) {
    test(name, async () => {
      const response = await send(service, 'stream', body);
      assert.match(response.headers.get('content-type') ?? '', /^application\/json/u);
      assert.deepEqual([response.status, errorBody.parse(await response.json()).code], [status, code]);
    });
  }
});
