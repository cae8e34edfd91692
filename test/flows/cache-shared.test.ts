import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Brain, Step } from '@sallyport/simulator';
import { call } from '../support/approvals.ts';
import { answerOf, eventsIn, joined, rows, send, until } from '../support/runs.ts';
import { query, startService, type TestService } from '../support/service.ts';
import { read } from '../support/workspaces.ts';

const limit = { timeout: 180_000 };

/** A service whose model says a word, reads, and says the rest only when it is let. */
async function held() {
  const gate = Promise.withResolvers<Step>();
  let calls = 0;
  const brain: Brain = (_, { call: index }) => {
    calls += 1;
    return index === 0 ? { text: 'First. ', tools: [read('a.txt')] } : gate.promise;
  };
  const of = await startService({ script: brain });
  return { of, calls: () => calls, finish: gate.resolve };
}

const shared = {
  prompt: 'What?',
  permission_mode: 'readOnly',
  cache: 'auto',
  files: [{ path: 'a.txt', content: 'A' }],
};

/** Reads a stream until it has said something, then on to its end. */
async function streaming(of: TestService) {
  const response = await send(of, 'stream', shared);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  while (!eventsIn(text).some(({ event }) => event.type === 'text_delta')) text += (await reader.read()).value ?? '';
  const whole = async () => {
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) text += value;
    return eventsIn(text);
  };
  return { whole: whole() };
}

/** Twenty that ask the same at once, with the run of the first under way: the first, ten queries and nine streams. */
async function twenty({ of, calls }: Awaited<ReturnType<typeof held>>) {
  const abort = new AbortController();
  const first = send(of, 'query', shared, abort.signal);
  await until(() => calls() === 2);
  const queries = Array.from({ length: 10 }, () => query(of, shared));
  await call(of, 'GET', 'models');
  const streams = await Promise.all(Array.from({ length: 9 }, () => streaming(of)));
  return { first, leave: () => abort.abort(), queries, streams: streams.map(({ whole }) => whole) };
}

test('of twenty equal requests at once one runs; the first leaves, and the others get its answer', limit, async () => {
  const bench = await held();
  const { of, calls, finish } = bench;
  try {
    const { first, leave, queries, streams } = await twenty(bench);
    const left = assert.rejects(first);
    leave();
    await left;
    await call(of, 'GET', 'models');
    finish({ text: 'And the rest.' });
    const answers = (await Promise.all(queries)).map(({ status, body }) => {
      assert.deepEqual([status, body['success'], answerOf(body)], [200, true, 'First. And the rest.']);
      return body;
    });
    for (const events of await Promise.all(streams)) {
      assert.equal(joined({ events }), 'First. And the rest.');
      answers.push(events.at(-1)!.event as Record<string, any>);
    }
    for (const { cached, cost_usd, tokens_used } of answers) {
      assert.deepEqual([cached, cost_usd, tokens_used], ['coalesced', 0, 0]);
    }
    assert.equal(new Set(answers.map(({ request_id }) => request_id)).size, 19);
    assert.equal(new Set(answers.map(({ session_id }) => session_id)).size, 1);
    assert.equal(calls(), 2);
    assert.equal(rows(of, 'select * from turns').length, 1);
    assert.equal((await query(of, shared)).body['cached'], 'hit');
  } finally {
    finish({});
    await of.close();
  }
});

test('a run that fails is told to all who wait for it, and each may try again', limit, async () => {
  const bench = await held();
  const { of, finish } = bench;
  try {
    const { first, queries, streams } = await twenty(bench);
    finish({ fault: { kind: 'status', status: 400 } });
    assert.equal((await first).status, 502);
    for (const { status, body } of await Promise.all(queries)) {
      assert.deepEqual([status, body['code']], [502, 'upstream_rejected'], JSON.stringify(body));
    }
    for (const events of await Promise.all(streams)) {
      const result = events.at(-1)!.event as Record<string, any>;
      assert.deepEqual([result['success'], result['code'], result['is_complete']], [false, 'upstream_rejected', true]);
    }
    await query(of, shared);
    assert.equal(rows(of, 'select * from turns').length, 2);
  } finally {
    finish({});
    await of.close();
  }
});

test('a run that is shared goes on for the last who waits for it', limit, async () => {
  const bench = await held();
  const { of, calls, finish } = bench;
  const states = () => rows(of, 'select state from turns order by rowid').map(({ state }) => state);
  try {
    const aborts = [new AbortController(), new AbortController()];
    const [first, second] = aborts.map(({ signal }) => ({ sent: () => send(of, 'query', shared, signal) }));
    const one = assert.rejects(first!.sent());
    await until(() => calls() === 2);
    const other = assert.rejects(second!.sent());
    const watcher = await streaming(of);
    aborts[0]?.abort();
    await one;
    await call(of, 'GET', 'models');
    assert.deepEqual(states(), ['running']);
    aborts[1]?.abort();
    await other;
    // A third one still watches it.
    await call(of, 'GET', 'models');
    assert.deepEqual(states(), ['running']);
    finish({ text: 'Done.' });
    assert.equal(joined({ events: await watcher.whole }), 'First. Done.');
    assert.deepEqual(states(), ['completed']);
  } finally {
    finish({});
    await of.close();
  }
});

test('when all have left the run is cancelled, and the next request has one of its own', limit, async () => {
  const bench = await held();
  const { of, calls, finish } = bench;
  try {
    const aborts = [new AbortController(), new AbortController()];
    const sent = [assert.rejects(send(of, 'query', shared, aborts[0]!.signal))];
    await until(() => calls() === 2);
    sent.push(assert.rejects(send(of, 'query', shared, aborts[1]!.signal)));
    await call(of, 'GET', 'models');
    for (const abort of aborts) abort.abort();
    await Promise.all(sent);
    await until(() => rows(of, 'select state from turns')[0]?.['state'] === 'cancelled');
    const next = query(of, shared);
    await until(() => calls() === 4);
    finish({ text: 'Done.' });
    assert.equal((await next).body['cached'], false);
  } finally {
    finish({});
    await of.close();
  }
});
