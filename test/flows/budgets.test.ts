import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Brain, Step } from '@sallyport/simulator';
import { administer, makeKey, makeTenant } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { agentsOf } from '../support/processes.ts';
import { restartable } from '../support/restart.ts';
import { callsWith, rows, scripted, until } from '../support/runs.ts';
import { masterKey, query, startService, unshared, type TestService } from '../support/service.ts';

let directory: string;
let env: Record<string, string>;
let service: TestService;
/** Names of keys for whose budgets the store fails, with how many looks go well before. */
const failing = new Map<string, number>();

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sp-prices-'));
  const prices = join(directory, 'prices.json');
  // One dollar for each token of input.
  await writeFile(
    prices,
    JSON.stringify({ 'sallyport-simulator': { input: 1_000_000, output: 0, cacheRead: 0, cacheWrite: 0 } }),
  );
  env = {
    ...unshared,
    SALLYPORT_PRICES: prices,
    SALLYPORT_MODELS: 'sallyport-simulator,unpriced-model',
    SALLYPORT_MAX_PROCESSES: '10',
  };
  service = await startService({
    env,
    stores: (stores) => ({
      ...stores,
      budgets: {
        ...stores.budgets,
        standing(account, except) {
          const left = failing.get(account.key ?? '');
          if (left === 0) return Promise.reject(new Error('the store failed'));
          if (left !== undefined) failing.set(account.key ?? '', left - 1);
          return stores.budgets.standing(account, except);
        },
      },
    }),
  });
});
after(async () => {
  await service.close();
  await rm(directory, { recursive: true });
});

const limit = { timeout: 240_000 };
const dollar = { usage: { input_tokens: 1, output_tokens: 1 } };
const list: Step = { tools: [{ name: 'Glob', input: { pattern: '*' } }], ...dollar };
const done: Step = { text: 'Done.', ...dollar };
/** A prompt for which the model would make so many calls, each for a dollar. */
const costing = (dollars: number, word: string): string =>
  scripted([...Array.from({ length: dollars - 1 }, () => list), done], word);

interface Asked {
  readonly url: string;
}
type Answer = Awaited<ReturnType<typeof query>>;

const start = (on: Asked, id: string, prompt: string, key: string, extra = {}) =>
  query(on, { prompt, max_turns: 10, ...extra }, { key, path: `/api/claude/conversation/start?session_id=${id}` });
const goOn = (on: Asked, id: string, message: string, key: string) =>
  query(on, { session_id: id, message }, { key, path: `/api/claude/conversation/${id}/continue` });
const ask = (prompt: string, key: string, extra = {}) => query(service, { prompt, max_turns: 10, ...extra }, { key });

const stopOf = ({ status, body }: Answer) => [status, body['success'], body['stop_reason'], body['cost_usd']];
const refusalOf = ({ status, body }: Answer) => [status, body['code']];
const exhausted = [402, 'budget_exhausted'];
const count = (table: string): number => rows(service, `select count(*) as n from ${table}`)[0]?.['n'];
const reservations = (of: { dataDir: string } = service) =>
  rows(of, 'select conversation, usd from reservations').map((row) => ({ ...row }));

/** Asserts that the work is refused for want of a budget, and that nothing of it is stored, run or left. */
async function assertRefused(word: string, work: () => Promise<Answer>, expected: unknown[] = exhausted) {
  const stored = () => [count('turns'), count('conversations'), count('events'), reservations()];
  const before = stored();
  assert.deepEqual(refusalOf(await work()), expected);
  assert.deepEqual(stored(), before);
  assert.equal(callsWith(service, word).length, 0);
}

test('the run budget of a key bounds every turn, and a request can only lower it', limit, async () => {
  const key = await makeKey(service, { name: 'runs', narrowing: { budgets: { run: 2 } } });
  assert.deepEqual(stopOf(await ask(costing(5, 'run-a-'), key)), [200, false, 'max_budget', 2]);
  assert.equal(callsWith(service, 'run-a-').length, 2);
  assert.deepEqual(stopOf(await ask(costing(5, 'run-b-'), key, { max_budget_usd: 1 })), [200, false, 'max_budget', 1]);
  assert.deepEqual(stopOf(await ask(costing(5, 'run-c-'), key, { max_budget_usd: 9 })), [200, false, 'max_budget', 2]);
  assert.deepEqual(stopOf(await ask(costing(2, 'run-d-'), key)), [200, true, 'end_turn', 2]);
  assert.deepEqual(reservations(), []);
});

test(
  'the budget of a conversation bounds all its turns, until it is raised, and then all of its past is there',
  limit,
  async () => {
    const key = await makeKey(service, { name: 'talks', narrowing: { budgets: { conversation: 3 } } });
    assert.deepEqual(stopOf(await start(service, 'talk', costing(2, 'talk-1-'), key)), [200, true, 'end_turn', 2]);
    assert.deepEqual(stopOf(await goOn(service, 'talk', costing(3, 'talk-2-'), key)), [200, false, 'max_budget', 1]);
    await assertRefused('talk-3-', () => goOn(service, 'talk', costing(1, 'talk-3-'), key));
    await assertRefused('talk-3-', () => goOn(service, 'talk', costing(1, 'talk-3-'), masterKey));
    await assertRefused('talk-3-', () => goOn(service, 'talk', costing(1, 'talk-3-'), key));
    const other = await start(service, 'talk-other', costing(1, 'talk-other-'), key);
    assert.equal(other.body['success'], true, 'another conversation has its own');
    await administer(service, 'PATCH', 'tenants/default/keys/talks', { narrowing: { budgets: { conversation: 5 } } });
    assert.deepEqual(stopOf(await goOn(service, 'talk', costing(1, 'talk-4-'), masterKey)), [200, true, 'end_turn', 1]);
    const [last] = callsWith(service, 'talk-4-');
    const sent = JSON.stringify(last?.body);
    for (const word of ['talk-1-', 'talk-2-', 'Done.']) assert.ok(sent.includes(word), `${word} is in the past`);
    const payers = rows(service, "select distinct key from usage where conversation = 'talk'");
    assert.deepEqual(
      payers.map((row) => row['key']),
      ['talks'],
      'the owner pays, whoever goes on',
    );
  },
);

test('the day of a key is its own', limit, async () => {
  const key = await makeKey(service, { name: 'days', narrowing: { budgets: { day: 3 } } });
  assert.deepEqual(stopOf(await ask(costing(2, 'day-1-'), key)), [200, true, 'end_turn', 2]);
  assert.deepEqual(stopOf(await ask(costing(3, 'day-2-'), key)), [200, false, 'max_budget', 1]);
  await assertRefused('day-3-', () => ask(costing(1, 'day-3-'), key));
  await assertRefused('day-3-', () => start(service, 'day-3', costing(1, 'day-3-'), key));
  const other = await makeKey(service, { name: 'other-days', narrowing: { budgets: { day: 3 } } });
  assert.deepEqual(stopOf(await ask(costing(1, 'day-4-'), other)), [200, true, 'end_turn', 1]);
});

test('the month of a tenant is shared by its keys', limit, async () => {
  const one = await makeTenant(service, 'monthly');
  const two = await makeKey(service, { tenant: 'monthly', name: 'two' });
  await administer(service, 'PATCH', 'tenants/monthly', { budgets: { month: 3 } });
  assert.deepEqual(stopOf(await ask(costing(2, 'month-1-'), one)), [200, true, 'end_turn', 2]);
  assert.deepEqual(stopOf(await ask(costing(3, 'month-2-'), two)), [200, false, 'max_budget', 1]);
  for (const key of [one, two]) await assertRefused('month-3-', () => ask(costing(1, 'month-3-'), key));
  await administer(service, 'PATCH', 'tenants/monthly', { budgets: { month: 4 } });
  assert.deepEqual(stopOf(await ask(costing(1, 'month-4-'), one)), [200, true, 'end_turn', 1]);
});

/** Answers every call for a dollar with a call of a tool, but none before so many are there at once. */
function together(word: string, most: number): Brain {
  const all = Promise.withResolvers<void>();
  let there = 0;
  return async (request) => {
    if (!JSON.stringify(request).includes(word)) return done;
    if (++there === most) all.resolve();
    await all.promise;
    return list;
  };
}

test('ten turns at once at 99 % overspend by one call each at most, and then nothing passes', limit, async (t) => {
  const key = await makeTenant(service, 'crowd');
  await administer(service, 'PATCH', 'tenants/crowd', { budgets: { day: 10 } });
  assert.equal((await ask(scripted([{ text: 'Dear.', usage: { input_tokens: 9 } }]), key)).body['cost_usd'], 9);
  t.after(() => service.simulator.play({ steps: [] }));
  service.simulator.play(together('crowd-', 10));
  const turns = Array.from({ length: 10 }, (_, index) => ask(`crowd-${index}-`, key));
  const ends = (await Promise.all(turns)).map(stopOf);
  assert.deepEqual(
    ends,
    Array.from({ length: 10 }, () => [200, false, 'max_budget', 1]),
  );
  assert.equal(callsWith(service, 'crowd-').length, 10, 'the calls that would cross never arrive');
  await assertRefused('late-', () => ask('late-', key));
  const [spent] = rows(service, "select sum(cost_usd) as usd from usage where tenant = 'crowd'");
  assert.equal(spent?.['usd'], 19);
  assert.deepEqual(reservations(), []);
});

test('turns at once that have limits of their own never overspend together', limit, async () => {
  const key = await makeTenant(service, 'careful');
  await administer(service, 'PATCH', 'tenants/careful', { budgets: { day: 5, run: 2 } });
  const turns = Array.from({ length: 10 }, (_, index) => ask(costing(4, `careful-${index}-`), key));
  const answers = await Promise.all(turns);
  const refused = answers.filter(({ status }) => status === 402);
  for (const answer of answers.filter((it) => !refused.includes(it))) {
    assert.deepEqual(stopOf(answer).slice(0, 3), [200, false, 'max_budget']);
  }
  assert.equal(callsWith(service, 'careful-').length, 5);
  await assertRefused('late-', () => ask(costing(1, 'late-'), key));
});

test('a conversation whose running turn has reserved all is busy, not out of its budget', limit, async () => {
  const key = await makeKey(service, { name: 'busy', narrowing: { budgets: { run: 2, conversation: 2 } } });
  const slow = scripted([{ text: 'Slowly told. '.repeat(40), rate: 40, ...dollar }], 'busy-1-');
  const running = start(service, 'busy', slow, key);
  await until(() => callsWith(service, 'busy-1-').length === 1);
  assert.deepEqual(refusalOf(await goOn(service, 'busy', costing(1, 'busy-2-'), key)), [409, 'conversation_busy']);
  assert.deepEqual(stopOf(await running), [200, true, 'end_turn', 1]);
  assert.deepEqual(stopOf(await goOn(service, 'busy', costing(1, 'busy-3-'), key)), [200, true, 'end_turn', 1]);
  await assertRefused('busy-4-', () => goOn(service, 'busy', costing(1, 'busy-4-'), key));
});

test('a call whose process was killed is charged', limit, async () => {
  const key = await makeKey(service, { name: 'killed', narrowing: { budgets: { day: 1 } } });
  const others = new Set((await agentsOf(service)).map(({ pid }) => pid));
  const running = ask(scripted([{ text: 'Slowly told. '.repeat(400), rate: 10, ...dollar }], 'killed-1-'), key);
  await until(() => callsWith(service, 'killed-1-').length === 1);
  for (const { pid } of await agentsOf(service)) if (!others.has(pid)) process.kill(pid, 'SIGKILL');
  assert.equal((await running).status, 502);
  await assertRefused('killed-2-', () => ask(costing(1, 'killed-2-'), key));
  assert.deepEqual(reservations(), []);
});

test('when the store fails as a call asks for its budget, nothing reaches the upstream', limit, async () => {
  for (const [looks, calls] of [
    [1, 0], // One look is made before the acceptance.
    [3, 1], // One for the call, one after its tools.
  ] as const) {
    const word = `broken-${calls}-`;
    const key = await makeKey(service, { name: word, narrowing: { budgets: { day: 50 } } });
    failing.set(word, looks - 1);
    const { status, body } = await ask(costing(3, word), key);
    assert.deepEqual([status, body['code']], [500, 'internal'], JSON.stringify(body));
    assert.equal(callsWith(service, word).length, calls);
    failing.delete(word);
    assert.deepEqual(stopOf(await ask(costing(2, `again-${word}`), key)), [200, true, 'end_turn', 2]);
    assert.deepEqual(reservations(), []);
  }
});

test('a model without a known price cannot be used under a budget', limit, async () => {
  const unpriced = { model: 'unpriced-model' };
  const free = await makeTenant(service, 'free');
  assert.equal((await ask(costing(1, 'free-'), free, unpriced)).body['success'], true);
  for (const what of ['run', 'conversation', 'day', 'month']) {
    const key = await makeKey(service, { name: `unpriced-${what}`, narrowing: { budgets: { [what]: 50 } } });
    const refused = () => ask(costing(1, `unpriced-${what}-`), key, unpriced);
    await assertRefused(`unpriced-${what}-`, refused, [403, 'model_not_allowed']);
    assert.match((await refused()).body['detail'], /price/u);
  }
  assert.equal((await start(service, 'free-talk', costing(1, 'free-1-'), free, unpriced)).body['success'], true);
  await administer(service, 'PATCH', 'tenants/free', { budgets: { month: 50 } });
  const goesOn = () => goOn(service, 'free-talk', costing(1, 'free-2-'), free);
  await assertRefused('free-2-', goesOn, [403, 'model_not_allowed']);
});

test(
  'a turn in which the service is killed keeps what it has spent and what it has reserved',
  limit,
  async (context) => {
    const killed = await restartable(context, { env });
    const key = await makeTenant(killed, 'late');
    await administer(killed, 'PATCH', 'tenants/late', { budgets: { day: 5 } });
    const slow: Step = { text: 'Slowly told. '.repeat(60), rate: 40, ...dollar };
    const lost = assert.rejects(start(killed, 'cut', scripted([list, slow], 'cut-'), key, { max_budget_usd: 4 }));
    const info = async () => (await call(killed, 'GET', 'conversation/cut/info', undefined, key)).body;
    await until(async () => callsWith(killed, 'cut-').length === 2 && (await info())['cost_usd'] === 1);
    // A call that the stored transcript does not know yet would end the turn.
    await until(() => rows(killed, "select 1 from transcripts where instr(entry, 'tool_result') > 0").length > 0);
    await killed.kill();
    await lost;
    assert.deepEqual(reservations(killed), [{ conversation: 'cut', usd: 3 }]);
    await killed.start();
    await until(() => callsWith(killed, 'cut-').length === 3);
    assert.deepEqual(reservations(killed), [{ conversation: 'cut', usd: 3 }]);
    // Five less one that is spent and three that are reserved.
    const beside = { prompt: costing(3, 'beside-'), max_turns: 10, max_budget_usd: 3 };
    assert.deepEqual(stopOf(await query(killed, beside, { key })), [200, false, 'max_budget', 1]);
    assert.equal(callsWith(killed, 'beside-').length, 1);
    await until(async () => (await info())['status'] === 'idle');
    assert.deepEqual(reservations(killed), []);
    const spent = rows(killed, "select sum(cost_usd) as usd, count(*) as calls from usage where conversation = 'cut'");
    assert.deepEqual({ ...spent[0] }, { usd: 2, calls: 2 });
    const rest = { prompt: costing(5, 'rest-'), max_turns: 10 };
    assert.deepEqual(stopOf(await query(killed, rest, { key })), [200, false, 'max_budget', 2]);
    assert.deepEqual(refusalOf(await query(killed, rest, { key })), exhausted);
  },
);
