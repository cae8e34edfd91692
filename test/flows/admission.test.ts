import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { StreamEvent } from '@sallyport/protocol';
import type { Step } from '@sallyport/simulator';
import { openSocket } from '../../packages/server/src/http/socket-support.ts';
import { administer, makeKey, makeTenant } from '../support/admin.ts';
import { call, logAtRest, logOf } from '../support/approvals.ts';
import { ask } from '../support/idempotency.ts';
import { callsWith, eventsIn, joined, rows, scripted, turnState, until, type Streamed } from '../support/runs.ts';
import { query, startService, userKey, type TestService } from '../support/service.ts';

const limit = { timeout: 120_000 };
const endless: Step = { text: 'word '.repeat(1000), rate: 10 };

/** A service in which few run at a time. */
async function crowded(context: TestContext, env: Record<string, string> = {}): Promise<TestService> {
  const service = await startService({ env: { SALLYPORT_MAX_PROCESSES: '1', SALLYPORT_DRAIN_SECONDS: '1', ...env } });
  context.after(() => service.close());
  return service;
}

/** An answer of server-sent events while it comes. */
interface Open {
  status: number;
  text: string;
  readonly over: Promise<void>;
  leave(): void;
}

function opened(service: { url: string }, path: string, body?: unknown, key = userKey): Open {
  const left = new AbortController();
  const open = { status: 0, text: '', leave: () => left.abort(), over: Promise.resolve() };
  const read = async () => {
    const response = await fetch(`${service.url}/api/claude/${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', accept: 'text/event-stream' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: left.signal,
    });
    open.status = response.status;
    assert.equal(response.status, 200, response.ok ? '' : await response.text());
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) open.text += decoder.decode(chunk as Uint8Array, { stream: true });
  };
  open.over = read().catch((error: unknown) => {
    // It may be left, or cut when the service stops.
    if (error instanceof assert.AssertionError) throw error;
  });
  return open;
}

const eventsOf = ({ text }: Open): Streamed['events'] => eventsIn(text);

/** What a stream said of where its turn stands, in order. */
const standing = (events: readonly { readonly event: StreamEvent }[]): string[] =>
  events.flatMap(({ event }) =>
    event.type === 'status' ? [event.place === undefined ? event.status : `${event.status} ${event.place}`] : [],
  );
const isQueued = (open: Open): boolean => standing(eventsOf(open)).some((text) => text.startsWith('queued'));

/** Takes a place, until it is given back. */
async function occupied(service: TestService, word: string): Promise<() => Promise<void>> {
  const open = opened(service, 'stream', { prompt: scripted([endless], word), timeout: 300 });
  await until(() => callsWith(service, word).length === 1);
  return async () => {
    open.leave();
    await open.over;
    await until(() => turnState(service, word) === 'cancelled');
  };
}

const request = (word: string, text = `Told ${word}.`) => ({ prompt: scripted([{ text }], word), timeout: 300 });

test(
  'a turn that waits tells its place and then that it runs; one that does not wait tells nothing',
  limit,
  async (t) => {
    const service = await crowded(t);
    const release = await occupied(service, 'holder');
    const first = opened(service, 'stream', { prompt: scripted([endless], 'first'), timeout: 300 });
    await until(() => isQueued(first));
    const socket = await openSocket(Number(new URL(service.url).port), '/ws/one', {
      headers: { authorization: `Bearer ${userKey}` },
    });
    t.after(() => socket.socket.close());
    const start = 'conversation/start?session_id=second';
    const second = opened(service, start, request('second-', 'One by one.'));
    await until(() => isQueued(second));
    assert.deepEqual([standing(eventsOf(first)), standing(eventsOf(second))], [['queued 1'], ['queued 2']]);
    // Whoever comes to follow meanwhile is told too.
    const late = opened(service, 'conversation/second/events');
    await until(() => isQueued(late));
    assert.deepEqual(
      eventsOf(late).map(({ event }) => event.type),
      ['user_message', 'status'],
    );
    socket.send({ type: 'resume', session_id: 'second' });
    for (;;) {
      const frame = await socket.next();
      if (frame.type !== 'claude_response' || frame.event_type !== 'status') continue;
      assert.deepEqual([frame['status'], frame['place']], ['queued', 2]);
      break;
    }
    await release();
    await until(() => callsWith(service, 'first').length === 1);
    await until(() => standing(eventsOf(second)).includes('queued 1'));
    assert.deepEqual(standing(eventsOf(first)), ['queued 1', 'running']);
    first.leave();
    await second.over;
    assert.deepEqual(standing(eventsOf(second)), ['queued 2', 'queued 1', 'running']);
    assert.equal(joined({ events: eventsOf(second) }), 'One by one.');
    await until(() => eventsOf(late).at(-1)?.event.type === 'result');
    late.leave();
    assert.equal(joined({ events: eventsOf(late) }), 'One by one.');
    // Of the log a status is no part: any cursor that came with one goes on after what was told before it.
    const log = await logOf(service, 'second');
    assert.ok(log.every(({ type }) => type !== 'status'));
    for (const { id, event } of eventsOf(late).filter(({ event: { type } }) => type === 'status')) {
      const rest = opened(service, `conversation/second/events?follow=false&after=${id}`);
      await rest.over;
      assert.deepEqual(
        eventsOf(rest).map((each) => each.event),
        log.slice(1),
        JSON.stringify(event),
      );
    }
    const alone = opened(service, 'stream', request('alone'));
    await alone.over;
    assert.deepEqual(standing(eventsOf(alone)), []);
  },
);

test('what is stopped while it waits ends at once, starts nothing, and leaves the line', limit, async (t) => {
  const service = await crowded(t);
  await call(service, 'POST', 'conversation/start?session_id=old', { prompt: scripted([{ text: 'Hi.' }]) });
  const lent = await makeKey(service, { name: 'lent' });
  await occupied(service, 'holder');
  const start = (id: string) => `conversation/start?session_id=${id}`;
  const ways: Record<string, { waits: () => Open; stop: (open: Open) => unknown; ends: string | undefined }> = {
    left: {
      waits: () => opened(service, 'stream', request('word-left')),
      stop: (open) => open.leave(),
      ends: 'cancelled',
    },
    interrupted: {
      waits: () => opened(service, start('interrupted'), request('word-interrupted')),
      stop: () => call(service, 'POST', 'conversation/interrupted/interrupt'),
      ends: 'interrupted',
    },
    later: {
      waits: () => opened(service, 'conversation/old/continue', { session_id: 'old', message: 'word-later' }),
      stop: () => call(service, 'POST', 'conversation/old/interrupt'),
      ends: 'interrupted',
    },
    deleted: {
      waits: () => opened(service, start('deleted'), request('word-deleted')),
      stop: () => call(service, 'DELETE', 'conversation/deleted'),
      ends: undefined,
    },
    halted: {
      waits: () => opened(service, start('halted'), request('word-halted')),
      stop: () =>
        administer(service, 'POST', 'stops', { scope: 'conversation', tenant: 'default', conversation: 'halted' }),
      ends: 'interrupted',
    },
    revoked: {
      waits: () => opened(service, start('revoked'), request('word-revoked'), lent),
      stop: () => administer(service, 'DELETE', 'tenants/default/keys/lent'),
      ends: 'interrupted',
    },
  };
  for (const [name, { waits, stop, ends }] of Object.entries(ways)) {
    const word = `word-${name}`;
    const open = waits();
    await until(() => isQueued(open));
    assert.deepEqual(standing(eventsOf(open)), ['queued 1'], `${name}: nobody else is in the line`);
    await stop(open);
    await open.over;
    await until(() => turnState(service, word) === ends);
    assert.deepEqual(callsWith(service, word), [], name);
    assert.equal(turnState(service, 'holder'), 'running', name);
  }
  assert.equal(service.sallyport.processes().length, 1);
});

test('when the service stops whoever waits is refused at once, and nothing of it is kept', limit, async (t) => {
  const service = await crowded(t);
  await occupied(service, 'holder');
  const open = opened(service, 'conversation/start?session_id=c', request('word-c'));
  await until(() => isQueued(open));
  const asked = query(service, request('word-q'));
  await until(() => turnState(service, 'word-q') === 'running');
  const closed = service.sallyport.close();
  const { status, body } = await asked;
  assert.deepEqual([status, body['code']], [503, 'not_ready']);
  await open.over;
  assert.deepEqual(
    eventsOf(open).map(({ event }) => [event.type, event.is_complete, event.error === null]),
    [
      ['status', false, true],
      ['status', true, false],
    ],
  );
  await closed;
  for (const word of ['word-c', 'word-q']) {
    assert.deepEqual([turnState(service, word), callsWith(service, word)], [undefined, []], word);
  }
});

test(
  'whose time passes while it waits is refused: nothing has run, and the same may be asked again',
  limit,
  async (t) => {
    const service = await crowded(t, { SALLYPORT_MAX_PROCESSES: '4' });
    const steps: readonly Step[] = [{ text: 'I know you.' }];
    const begin = { prompt: scripted(steps, 'begin-'), timeout: 20 };
    assert.equal((await call(service, 'POST', 'conversation/start?session_id=c', begin)).status, 200);
    const releases = await Promise.all(
      ['one', 'two', 'three', 'four'].map((name) => occupied(service, `holder-${name}`)),
    );
    const message = { session_id: 'c', message: scripted([{ text: 'Here I am.' }], 'again-') };
    const continuing = { path: 'conversation/c/continue', body: message, key: 'again' };
    const streaming = opened(service, 'stream', { ...request('stream-'), timeout: 20 });
    const { status, body, retryAfter, replayed } = await ask(service, continuing);
    assert.deepEqual([status, body['code'], replayed], [503, 'overloaded', null]);
    assert.ok(Number(retryAfter) >= 1);
    await streaming.over;
    const last = eventsOf(streaming).at(-1)?.event;
    assert.ok(last?.type === 'result' && last.is_complete, JSON.stringify(last));
    assert.deepEqual([last.code, last.stop_reason, last.success], ['overloaded', 'error', false]);
    assert.equal(turnState(service, 'stream-'), undefined, 'a one-shot that did not run is not kept');
    assert.equal(turnState(service, 'again-'), 'failed');
    assert.deepEqual(callsWith(service, 'again-'), []);
    await Promise.all(releases.map((release) => release()));
    const later = await ask(service, continuing);
    assert.deepEqual([later.status, later.replayed], [200, null], later.text);
    assert.equal((await ask(service, continuing)).replayed, 'true');
    // Claude was told it once, and the history says what became of either.
    const [sent, ...more] = callsWith(service, 'again-');
    assert.equal(more.length, 0);
    assert.equal(JSON.stringify(sent?.body).split('again-').length, 2);
    const { body: history } = await call(service, 'GET', 'conversation/c/messages');
    const told = (history['items'] as Record<string, any>[]).map(({ role, content, error }) => [role, content, error]);
    assert.deepEqual(told, [
      ['user', begin.prompt, null],
      ['assistant', 'I know you.', null],
      ['user', message.message, null],
      ['assistant', '', body['detail']],
      ['user', message.message, null],
      ['assistant', 'Here I am.', null],
    ]);
    const results = (await logAtRest(service, 'c')).filter(({ type }) => type === 'result');
    assert.deepEqual(
      results.map(({ code }) => code),
      [null, 'overloaded', null],
    );
  },
);

test('what cannot have its turn in its time is refused before anything is written', limit, async (t) => {
  const service = await crowded(t);
  await occupied(service, 'holder');
  const waiting = ['one', 'two', 'three'].map((name) => opened(service, 'stream', request(`waiting-${name}`)));
  await until(() => waiting.every(isQueued));
  const before = rows(service, 'select count(*) as turns from turns');
  const { status, body, headers } = await query(service, { ...request('hasty'), timeout: 10 });
  assert.deepEqual([status, body['code']], [503, 'overloaded']);
  const seconds = Number(headers.get('retry-after'));
  assert.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60);
  assert.deepEqual(rows(service, 'select count(*) as turns from turns'), before);
});

test('a flood of one tenant leaves another its turn, and its own newest gives way', limit, async (t) => {
  const service = await crowded(t, { SALLYPORT_MAX_WAITING: '4' });
  const other = await makeTenant(service, 'other');
  const release = await occupied(service, 'holder');
  const flood = [];
  for (const name of ['one', 'two', 'three', 'four']) {
    const open = opened(service, 'stream', request(`flood-${name}-`));
    flood.push(open);
    await until(() => isQueued(open));
  }
  const beyond = await query(service, request('flood-five-'));
  assert.deepEqual([beyond.status, beyond.body['code']], [503, 'overloaded']);
  const asking = opened(service, 'stream', request('other-'), other);
  await until(() => isQueued(asking));
  assert.deepEqual(standing(eventsOf(asking)), ['queued 2']);
  await flood[3]?.over;
  const last = flood[3] && eventsOf(flood[3]).at(-1)?.event;
  assert.ok(last?.type === 'result' && last.code === 'overloaded', JSON.stringify(last));
  await release();
  await Promise.all([...flood, asking].map(({ over }) => over));
  const served = service.simulator.requests.map(
    ({ body }) => /(?:flood-\w+|other|holder)/u.exec(JSON.stringify(body))?.[0],
  );
  assert.deepEqual(served, ['holder', 'flood-one', 'other', 'flood-two', 'flood-three']);
});
