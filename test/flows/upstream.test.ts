import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { errorBody, type ErrorCode } from '@sallyport/protocol';
import type { Fault, Step } from '@sallyport/simulator';
import { agentsOf } from '../support/processes.ts';
import { answerOf, callsWith, joined, scripted, stream, typesOf, type Streamed } from '../support/runs.ts';
import { query, startService, unshared, upstreamKey, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  // So many failures at once are no upstream that is better left alone; that is tested elsewhere.
  const patient = { SALLYPORT_UPSTREAM_BREAKER_CALLS: '0', SALLYPORT_UPSTREAM_RETRY_PERCENT: '1000' };
  service = await startService({ env: { ...unshared, ...patient } });
});
after(() => service.close());

const answer = 'A fine answer of some length it is.';
/** What an upstream might say of itself. No client may read any of it. */
const words = 'upstream-canary-words';
const host = 'api.upstream-canary.test';
const message = `${words} at https://${host}/v1 for ${upstreamKey}`;
/** Long enough for a machine that does much else. */
const timeout = 300;
const atOnce = { concurrency: 6 };

let number = 0;
/** A prompt with a word of its own, by which its model calls are found. */
function prompted(steps: readonly Step[]): { word: string; prompt: string } {
  const word = `upstream-test-${(number += 1)}-`;
  return { word, prompt: scripted(steps, word) };
}

/** A failure that is final: what the client reads, and the most calls that the upstream may see of it. */
interface Final {
  readonly fault: Fault;
  readonly status: number;
  readonly code: ErrorCode;
  readonly retryable: boolean;
  /** Value of `Retry-After`; true: there must be one. */
  readonly wait?: string | true;
  readonly most: number;
  readonly thinking?: string;
}

const status = (code: number, text = '', rest: Partial<Extract<Fault, { kind: 'status' }>> = {}): Fault => ({
  kind: 'status',
  status: code as 400,
  message: `${text} ${message}`,
  ...rest,
});
const refused = (fault: Fault): Final => ({
  fault,
  status: 503,
  code: 'upstream_refused_credentials',
  retryable: false,
  most: 1,
});
const broken = (fault: Fault, most: number): Final => ({
  fault,
  status: 502,
  code: 'upstream_error',
  retryable: true,
  most,
});
const tooLong = (fault: Fault): Final => ({
  fault,
  status: 413,
  code: 'prompt_too_long',
  retryable: false,
  most: 1,
});
const limited = (fault: Fault, wait: string | true, most: number): Final => ({
  fault,
  status: 503,
  code: 'upstream_rate_limited',
  retryable: true,
  wait,
  most,
});
const overloaded = (fault: Fault, wait: string | true, most: number): Final => ({
  ...limited(fault, wait, most),
  code: 'upstream_overloaded',
});

// Claude Code itself asks once more after a cut stream. After a whole block it has the answer continued instead, three
// times; load can make it see no block, and so ask once more, in each of the four, and the broker see nothing, and ask
// twice more. A connection that is closed at once is tried on a fresh one too, as a kept one may just have run out.
const finals: Readonly<Record<string, Final>> = {
  '400': { fault: status(400), status: 502, code: 'upstream_rejected', retryable: false, most: 1 },
  '400 for a prompt that is too long': tooLong(status(400, 'prompt is too long: 214035 tokens > 200000 maximum')),
  '400 for an empty account': refused(status(400, 'Your credit balance is too low to access the API')),
  '401': refused(status(401)),
  '402': refused(status(402)),
  '403': refused(status(403)),
  '404': { fault: status(404), status: 502, code: 'upstream_model_not_found', retryable: false, most: 1 },
  '413': tooLong(status(413)),
  '429': limited(status(429), true, 3),
  '429 with a short wait': limited(status(429, '', { retry_after: 1 }), '1', 3),
  '429 with a long wait': limited(status(429, '', { retry_after: 3600 }), '3600', 1),
  '500': broken(status(500), 3),
  '502': broken(status(502), 3),
  '503': broken(status(503), 3),
  '503 with a long wait': { ...broken(status(503, '', { retry_after: 60 }), 1), wait: '60' },
  '504': broken(status(504), 3),
  '529': overloaded(status(529), true, 3),
  '529 with a long wait': overloaded(status(529, '', { retry_after: 60 }), '60', 1),
  'a cut before the first character': broken({ kind: 'cut' }, 3),
  'a cut in the text': broken({ kind: 'cut', after_chars: 20 }, 3),
  'a cut in the text after a thought': { ...broken({ kind: 'cut', after_chars: 20 }, 4 * 2 * 3), thinking: 'Hm.' },
  'a refused connection': broken({ kind: 'refuse' }, 6),
  garbage: broken({ kind: 'garbage' }, 3),
  'an error event at once': overloaded({ kind: 'error_event', message }, true, 3),
  'an error event in the text': overloaded({ kind: 'error_event', after_chars: 20, message }, true, 3),
  'another error event in the text': broken(
    { kind: 'error_event', error_type: 'api_error', after_chars: 20, message },
    3,
  ),
};

function assertSilent(text: string): void {
  for (const secret of [words, host, upstreamKey, new URL(service.simulator.url).host, 'sallyport_final']) {
    assert.ok(!text.includes(secret), `${secret} is in ${text}`);
  }
}

function assertFailure(final: Final, given: { status: number; headers: Headers; text: string }): void {
  const body = errorBody.parse(JSON.parse(given.text));
  assert.deepEqual([given.status, body.code, body.retryable], [final.status, final.code, final.retryable]);
  assertSilent(given.text);
  const wait = given.headers.get('retry-after');
  if (final.wait === true) assert.match(wait ?? 'none', /^[1-9]\d*$/u);
  else assert.equal(wait, final.wait ?? null);
}

function assertCalls(word: string, most: number): void {
  const { length } = callsWith(service, word);
  assert.ok(length >= 1 && length <= most, `the upstream was called ${length} times, at most ${most} are allowed`);
}

describe('a final failure of the upstream is one error of the catalogue', atOnce, () => {
  for (const [name, final] of Object.entries(finals)) {
    test(name, async () => {
      const { fault, thinking } = final;
      const { word, prompt } = prompted([{ text: answer, fault, ...(thinking && { thinking }) }]);
      const { status, headers, body } = await query(service, { prompt, timeout });
      assertFailure(final, { status, headers, text: JSON.stringify(body) });
      assertCalls(word, final.most);
    });
  }
});

/** After this long a stream has to begin whatever comes, in milliseconds. */
const heartbeat = 15_000;

describe('a final failure of the upstream on a stream', atOnce, () => {
  const early = ['400', '401', '429 with a long wait', '500', 'garbage'];
  for (const name of early) {
    test(`${name} is a status where nothing was said before`, async () => {
      const final = finals[name] as Final;
      const { word, prompt } = prompted([{ text: answer, fault: final.fault }]);
      const started = performance.now();
      const streamed = await stream(service, { prompt, timeout });
      // A machine that is too slow gets the stream's other form, tested below.
      if (performance.now() - started < heartbeat) assertFailure(final, streamed);
      else assertBrokenOff(final, streamed);
      assertCalls(word, final.most);
    });
  }

  for (const name of Object.keys(finals).filter((name) => name.includes('in the text'))) {
    test(`${name} is the last event, and no text comes twice`, async () => {
      const final = finals[name] as Final;
      const { fault, thinking } = final;
      const step: Step = { text: longAnswer, rate: 50, fault: { ...fault, ...later }, ...(thinking && { thinking }) };
      const { word, prompt } = prompted([step]);
      assertBrokenOff(final, await stream(service, { prompt, timeout }));
      assertCalls(word, final.most);
    });
  }
});

/** So much later that a slow answer was seen before. */
const later = { after_chars: 60 };
const longAnswer = `${answer} It says one thing after the other, and nothing twice. Its end is here.`;

function assertBrokenOff(final: Final, streamed: Streamed): void {
  assert.equal(streamed.status, 200);
  assert.equal(streamed.last, '[DONE]');
  const last = streamed.events.at(-1)?.event;
  assert.ok(last?.type === 'result');
  assert.deepEqual([last.code, last.is_complete, last.success, last.stop_reason], [final.code, true, false, 'error']);
  assert.ok(last.error);
  assert.ok(longAnswer.startsWith(joined(streamed)), joined(streamed));
  assertSilent(streamed.text);
}

/** A failure that goes by: how often it is seen, the most calls, and who asks again so that a stream tells of it. */
interface Passing {
  readonly fault: Fault;
  readonly times: number;
  readonly most: number;
  readonly again: 'broker' | 'claude' | 'either';
  readonly thinking?: string;
}

const cut: Fault = { kind: 'cut', ...later };
const passing: Readonly<Record<string, Passing>> = {
  '529 twice': { fault: status(529), times: 2, most: 3, again: 'broker' },
  '500 twice': { fault: status(500), times: 2, most: 3, again: 'broker' },
  '503 once': { fault: status(503), times: 1, most: 2, again: 'broker' },
  '429 with a short wait': { fault: status(429, '', { retry_after: 1 }), times: 1, most: 2, again: 'broker' },
  'a refused connection twice': { fault: { kind: 'refuse' }, times: 2, most: 3, again: 'either' },
  'a cut before the first character': { fault: { kind: 'cut' }, times: 1, most: 2, again: 'either' },
  'a cut in the text': { fault: cut, times: 1, most: 2, again: 'claude' },
  'a cut in the text after a thought': { fault: cut, times: 1, most: 2, again: 'claude', thinking: 'Hm.' },
};

describe('a failure that goes by leaves one answer', atOnce, () => {
  for (const [name, { fault, times, most, again, thinking }] of Object.entries(passing)) {
    // So slowly that what comes before a cut is seen.
    const step: Step = { text: longAnswer, rate: 50, fault, fault_times: times, ...(thinking && { thinking }) };

    test(name, async () => {
      const { word, prompt } = prompted([step]);
      const { status, body } = await query(service, { prompt, timeout });
      assert.equal(status, 200);
      assert.deepEqual([body['success'], body['stop_reason'], body['error']], [true, 'end_turn', null]);
      assert.equal(answerOf(body), longAnswer);
      assertCalls(word, most);
    });

    test(`${name}, on a stream`, async () => {
      const { word, prompt } = prompted([step]);
      const streamed = await stream(service, { prompt, timeout });
      assert.equal(joined(streamed), longAnswer);
      assert.equal(streamed.last, '[DONE]');
      assertSilent(streamed.text);
      assertCalls(word, most);
      const attempts = streamed.events.flatMap(({ event }) => (event.type === 'retry' ? [event.attempt] : []));
      if (again === 'broker') assert.deepEqual(attempts, times === 1 ? [1] : [1, 2]);
      assert.equal(typesOf(streamed).includes('restart'), again === 'claude');
    });
  }
});

describe('an odd answer is an answer', atOnce, () => {
  for (const kind of ['slow_bytes', 'unknown_events'] as const) {
    test(kind, async () => {
      const { word, prompt } = prompted([{ thinking: 'Hm.', text: `${answer} Ünïcödé 🎈.`, fault: { kind } }]);
      const { body } = await query(service, { prompt, timeout });
      assert.equal(answerOf(body), `${answer} Ünïcödé 🎈.`);
      assert.equal(body['success'], true);
      assert.ok(body['usage'].input_tokens > 0 && body['usage'].output_tokens > 0, JSON.stringify(body['usage']));
      assertCalls(word, 1);
      const streamed = await stream(service, { prompt, timeout });
      assert.equal(joined(streamed), `${answer} Ünïcödé 🎈.`);
    });
  }

  test('one without its last event is kept, and Claude goes on from there', async () => {
    const { word, prompt } = prompted([{ text: answer, fault: { kind: 'no_message_stop' } }, { text: ' And more.' }]);
    const { status, body } = await query(service, { prompt, timeout });
    assert.equal(status, 200);
    assert.equal(answerOf(body), `${answer} And more.`);
    assertCalls(word, 2);
  });
});

describe('an upstream that falls silent is left at the timeout', atOnce, () => {
  const silences: readonly [string, Fault, string][] = [
    ['before an answer', { kind: 'hang' }, ''],
    ['in an answer', { kind: 'stall', after_chars: 20 }, answer.slice(0, 20)],
  ];
  for (const [name, fault, said] of silences) {
    test(name, async () => {
      const { word, prompt } = prompted([{ text: answer, fault }]);
      const { status, body } = await query(service, { prompt, timeout: 10 });
      assert.equal(status, 200);
      assert.deepEqual([body['success'], body['stop_reason']], [false, 'timeout']);
      assert.equal(answerOf(body), said);
      assert.deepEqual(
        callsWith(service, word).map(({ outcome }) => outcome),
        ['client_left'],
      );
    });
  }
});

test('after all of it nothing is left, nothing was told to the log, and the next query works', async () => {
  assert.deepEqual(service.sallyport.processes(), []);
  assert.deepEqual(await agentsOf(service), []);
  const logs = service.logs.join('');
  assert.ok(logs.includes('model call failed'));
  assert.ok(!logs.includes(upstreamKey));
  assert.ok(!logs.includes('sallyport-run-'));
  const { body } = await query(service, { prompt: scripted([{ text: answer }]), timeout });
  assert.equal(answerOf(body), answer);
});
