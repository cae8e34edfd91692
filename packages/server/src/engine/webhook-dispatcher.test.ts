import { deepStrictEqual, doesNotMatch, match, ok, strictEqual } from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { anEntry } from '../testing/audit-entries.ts';
import { aDelivery } from '../testing/webhook-stores.ts';
import { dispatchBounds, type DispatcherParts } from './webhook-dispatcher.ts';
import { dayMs, dispatcherBench as bench, found, idOf, until, type Sent } from './webhook-dispatcher-support.ts';
import { createSecretBox } from './webhook-secrets.ts';

const minute = 60_000;
const hour = 60 * minute;

test('what is due is sent once, signed over its bytes, and is delivered', async (t) => {
  const { clock, stores, secret, sent, dispatcher, add } = await bench(t);
  await add({ body: '{"a":"é"}' });
  const running = dispatcher();
  running.start();
  await until(() => sent.length === 1);
  const [one] = sent;
  ok(one);
  const { headers, body, url } = one.request;
  deepStrictEqual([url, body], [aDelivery('x').url, '{"a":"é"}']);
  strictEqual(headers['webhook-timestamp'], String(Math.floor(clock.now() / 1000)));
  const content = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  const expected = createHmac('sha256', Buffer.from(secret.slice(6), 'base64'))
    .update(content)
    .digest('base64');
  strictEqual(headers['webhook-signature'], `v1,${expected}`);
  one.answer(204);
  await until(async () => (await found(stores)).state === 'delivered');
  clock.pass(dayMs);
  running.nudge();
  await running.close();
  strictEqual(sent.length, 1);
});

test('what fails is tried eight times in 28 hours, each wait longer, and is given up then', async (t) => {
  const { clock, stores, sent, log, dispatcher, add } = await bench(t);
  const begun = clock.now();
  await add({ url: 'https://hooks.example.com/in?token=canary' });
  const running = dispatcher();
  running.start();
  const waits: number[] = [];
  for (let tries = 1; tries <= 8; tries += 1) {
    await until(() => sent.length === tries);
    strictEqual(idOf(sent[tries - 1] as Sent), 'hook-0');
    if (tries % 2 === 0) sent[tries - 1]?.answer(500);
    else sent[tries - 1]?.fail('timeout');
    await until(async () => (await found(stores)).problem === (tries % 2 === 0 ? 'status' : 'timeout'));
    const { dueAt, state } = await found(stores);
    if (dueAt === null) {
      strictEqual(state, 'dead');
      break;
    }
    waits.push(dueAt - clock.now());
    clock.pass(dueAt - clock.now() - 1);
    running.nudge();
    clock.pass(1);
    running.nudge();
  }
  const least = [5000, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 10 * hour];
  strictEqual(waits.length, least.length);
  for (const [index, wait] of waits.entries()) ok(wait >= least[index]! && wait <= least[index]! * 1.1, String(wait));
  const { tries, status, endedAt } = await found(stores);
  deepStrictEqual([sent.length, tries, status, endedAt], [8, 8, 500, clock.now()]);
  ok(clock.now() - begun < 32 * hour);
  match(log.at(-1) ?? '', /^warn a webhook was given up .*"host":"hooks\.example\.com","tries":8,"problem":"status"/);
  doesNotMatch(log.join('\n'), /canary/);
});

test('a receiver that is gone is tried no more, and one that asks for time gets an hour at most', async (t) => {
  const { clock, stores, sent, dispatcher, add } = await bench(t);
  const date = new Date(clock.now() + 40 * minute).toUTCString();
  const cases: [number, string | undefined, (wait: number) => boolean][] = [
    [429, '600', (wait) => wait === 10 * minute],
    [503, date, (wait) => wait > 39 * minute && wait <= 40 * minute],
    [503, '999999999', (wait) => wait === hour],
    [429, '1', (wait) => wait >= 5000 && wait <= 5500],
    [503, 'soon', (wait) => wait >= 5000 && wait <= 5500],
    [500, '600', (wait) => wait >= 5000 && wait <= 5500],
    [307, '600', (wait) => wait >= 5000 && wait <= 5500],
  ];
  await add({}, ...cases.map((_, index) => ({ url: `https://h${index}.example.com/` })));
  dispatcher({ bounds: { ...dispatchBounds, atOnce: { all: 9, host: 9, tenant: 9 }, keepMs: dayMs } }).start();
  await until(() => sent.length === cases.length + 1);
  for (const one of sent) {
    const index = Number(idOf(one)?.slice('hook-'.length));
    if (index === 0) one.answer(410);
    else one.answer(...(cases[index - 1]?.slice(0, 2) as [number, string?]));
  }
  await until(async () => (await found(stores)).state === 'dead');
  for (const [index, [status, asked, fits]] of cases.entries()) {
    await until(async () => (await found(stores, `hook-${index + 1}`)).status === status);
    const { dueAt } = await found(stores, `hook-${index + 1}`);
    ok(fits((dueAt ?? 0) - clock.now()), `${status} ${asked}: ${(dueAt ?? 0) - clock.now()}`);
  }
});

test('a host that hangs, and a tenant that floods, leave places for the others', async (t) => {
  const { sent, store, dispatcher, add } = await bench(t);
  for (const tenant of ['loud', 'quiet']) await store(tenant);
  const hanging = Array.from({ length: 10 }, (_, index) => ({ id: `hang-${index}`, url: 'https://hang.example.com/' }));
  const flood = Array.from({ length: 20 }, (_, index) => {
    return { id: `flood-${index}`, tenant: 'loud', url: `https://f${index}.example.com/` };
  });
  await add(...hanging, ...flood, { id: 'quiet', tenant: 'quiet', url: 'https://quiet.example.com/' });
  dispatcher().start();
  await until(() => sent.length === 13);
  const counts = new Map<string, number>();
  for (const one of sent) {
    const kind = idOf(one)?.split('-')[0] ?? '';
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  deepStrictEqual(Object.fromEntries(counts), { hang: 4, flood: 8, quiet: 1 });
  // A place that is given free is taken at once.
  for (const one of sent.slice()) if (idOf(one)?.startsWith('flood')) one.answer(200);
  await until(() => sent.length === 21);
  ok(sent.slice(13).every((one) => idOf(one)?.startsWith('flood')));
});

test('never more are under way than may be', async (t) => {
  const { sent, dispatcher, add } = await bench(t);
  await add(...Array.from({ length: 30 }, (_, index) => ({ url: `https://h${index}.example.com/` })));
  const atOnce = { all: 5, host: 4, tenant: 8 };
  dispatcher({ bounds: { ...dispatchBounds, atOnce, keepMs: dayMs } }).start();
  let ended = 0;
  while (ended < 30) {
    await until(() => sent.length === Math.min(30, ended + 5));
    sent[ended]?.answer(200);
    ended += 1;
  }
  strictEqual(new Set(sent.map(idOf)).size, 30);
});

test('of two that send over one store, each message is sent by one', async (t) => {
  const { sent, dispatcher, add } = await bench(t);
  await add(...Array.from({ length: 14 }, (_, index) => ({ url: `https://h${index}.example.com/` })));
  const both = [dispatcher(), dispatcher()];
  for (const one of both) one.start();
  await until(() => sent.length === 14);
  for (const one of both) one.nudge();
  for (const one of sent) one.answer(200);
  await Promise.all(both.map((one) => one.close()));
  strictEqual(new Set(sent.map(idOf)).size, 14);
  strictEqual(sent.length, 14);
});

test('one that is killed between the sending and its note is sent again under the same id', async (t) => {
  const { clock, stores, sent, log, parts, dispatcher, add } = await bench(t);
  await add({});
  const killed = { ...parts.deliveries, delivered: () => Promise.reject(new Error('killed')) };
  const first = dispatcher({ deliveries: killed });
  first.start();
  await until(() => sent.length === 1);
  sent[0]?.answer(200);
  await first.close();
  ok(log.some((line) => line.startsWith('error')));
  const next = dispatcher();
  next.start();
  clock.pass(dispatchBounds.leaseMs);
  next.nudge();
  await until(() => sent.length === 2);
  deepStrictEqual(sent[1]?.request.body, sent[0]?.request.body);
  deepStrictEqual(sent.map(idOf), ['hook-0', 'hook-0']);
  sent[1]?.answer(200);
  await until(async () => (await found(stores)).state === 'delivered');
});

test('a closing service takes no more, and gives back what does not end', async (t) => {
  const { clock, stores, sent, dispatcher, add } = await bench(t);
  await add({});
  const closing = dispatcher({ bounds: { ...dispatchBounds, closeMs: 1, keepMs: dayMs } });
  closing.start();
  await until(() => sent.length === 1);
  await closing.close();
  ok(sent[0]?.signal.aborted);
  const { state, dueAt, problem } = await found(stores);
  deepStrictEqual([state, dueAt, problem], ['pending', clock.now(), 'interrupted']);
  closing.nudge();
  dispatcher().start();
  await until(() => sent.length === 2);
});

test('what cannot be signed is not sent, and the log says why', async (t) => {
  const { stores, store, sent, log, dispatcher, add } = await bench(t);
  await add({}, { tenant: 'nobody' });
  dispatcher({ box: createSecretBox(async () => 'another key, that sealed nothing') }).start();
  await until(async () => (await found(stores)).problem === 'unsigned');
  const line = log.find((one) => one.startsWith('error')) ?? '';
  match(line, /SALLYPORT_SECRET_KEY/);
  doesNotMatch(line, /whsec_/);
  const list = { tenant: 'nobody', state: null, before: null, limit: 1 };
  await until(async () => (await stores.deliveries.list(list))[0]?.problem === 'unsigned');
  strictEqual(sent.length, 0);
  await store('nobody');
  await stores.deliveries.redeliver('nobody', 'hook-1', 0, anEntry('again'));
  dispatcher().start();
  await until(() => sent.length === 1);
});

test('what ended before its retention is deleted', async (t) => {
  const { clock, stores, sent, dispatcher, add } = await bench(t);
  await add({});
  const running = dispatcher();
  running.start();
  await until(() => sent.length === 1);
  sent[0]?.answer(200);
  await until(async () => (await found(stores)).state === 'delivered');
  clock.pass(30 * dayMs);
  running.nudge();
  await add({ id: 'later' });
  clock.pass(1 * hour);
  const left = async () => {
    running.nudge();
    const all = await stores.deliveries.list({ tenant: 'default', state: null, before: null, limit: 10 });
    return all.length === 1 && all[0]?.id === 'later';
  };
  await until(left);
});

test('a store that fails is asked again, and complained about once', async (t) => {
  const { sent, log, parts, dispatcher, add } = await bench(t);
  await add({});
  let asked = 0;
  const failing: DispatcherParts['deliveries'] = {
    ...parts.deliveries,
    take: (due) => ((asked += 1) <= 3 ? Promise.reject(new Error('down')) : parts.deliveries.take(due)),
  };
  const running = dispatcher({ deliveries: failing });
  await until(() => {
    running.nudge();
    return sent.length === 1;
  });
  strictEqual(log.filter((line) => line.includes('could not be looked for')).length, 1);
});
