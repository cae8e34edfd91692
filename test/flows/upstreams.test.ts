import assert from 'node:assert/strict';
import { chmod, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { startSimulator, type Fault, type Simulator } from '@sallyport/simulator';
import { answerOf, joined, stream, until } from '../support/runs.ts';
import { masterKey, query, startService, type TestService } from '../support/service.ts';

const within = { timeout: 120_000 };
const timeout = 100;
const key = (name: string) => `canary-key-of-${name}`;

/** A second upstream beside that of the service. */
async function another(t: TestContext): Promise<Simulator> {
  const simulator = await startSimulator({ script: { steps: [{ text: 'From the other one.' }] } });
  t.after(() => simulator.close());
  return simulator;
}

const listOf = (...upstreams: readonly [string, string, Simulator][]) =>
  JSON.stringify(upstreams.map(([name, secret, { url }]) => ({ name, base_url: url, keys: [secret] })));

/** A service whose first upstream answers each call with the fault. */
async function failing(t: TestContext, fault: Fault, env: Readonly<Record<string, string>>): Promise<TestService> {
  const service = await startService({ script: () => ({ text: 'Never said.', fault }), env });
  t.after(() => service.close());
  return service;
}

const faults: Readonly<Record<string, Fault>> = {
  'is overloaded': { kind: 'status', status: 529 },
  'refuses the key': { kind: 'status', status: 401 },
  'limits the key': { kind: 'status', status: 429, retry_after: 600 },
  'refuses connections': { kind: 'refuse' },
  'never begins to answer': { kind: 'hang' },
};

for (const [what, fault] of Object.entries(faults)) {
  test(`when the first upstream ${what} the next one answers, and a stream tells of the retry`, within, async (t) => {
    const other = await another(t);
    const service = await failing(t, fault, {
      SALLYPORT_UPSTREAMS: listOf(['other', key('other'), other]),
      SALLYPORT_UPSTREAM_FIRST_BYTE_SECONDS: fault.kind === 'hang' ? '5' : '120',
    });
    const streamed = await stream(service, { prompt: 'Hello', timeout });
    assert.equal(joined(streamed), 'From the other one.');
    const attempts = streamed.events.flatMap(({ event }) => (event.type === 'retry' ? [event.attempt] : []));
    assert.deepEqual(attempts, [1]);
    const { status, body } = await query(service, { prompt: 'Hello', timeout });
    assert.deepEqual([status, body['success'], answerOf(body)], [200, true, 'From the other one.']);
    const health = await fetch(`${service.url}/api/claude/health`, {
      headers: { authorization: `Bearer ${masterKey}` },
    });
    assert.equal(((await health.json()) as { status: string }).status, 'healthy');
    assert.ok(!service.logs.join('').includes(key('other')));
  });
}

test(
  'an upstream that is overloaded for ever is left alone: callers get 503 and when to come back',
  within,
  async (t) => {
    const service = await failing(t, { kind: 'status', status: 529 }, { SALLYPORT_UPSTREAM_BREAKER_CALLS: '3' });
    const answers = [];
    for (let number = 0; number < 4; number++) answers.push(await query(service, { prompt: 'Hello', timeout }));
    for (const { status, headers, body } of answers) {
      assert.deepEqual([status, body['code'], body['retryable']], [503, 'upstream_overloaded', true]);
      assert.match(headers.get('retry-after') ?? '', /^[1-9]\d*$/u);
    }
    const changes = service.logs.filter((line) => line.includes('breaker of an upstream changed'));
    // Each query would have been three calls; after the third one it takes a pause for one more.
    assert.ok(changes.length > 0 && service.simulator.requests.length <= 2 + changes.length);
    const health = await fetch(`${service.url}/api/claude/health`, {
      headers: { authorization: `Bearer ${masterKey}` },
    });
    assert.equal(((await health.json()) as { status: string }).status, 'degraded');
  },
);

test(
  'upstreams and keys in a file are changed without a restart, and a broken file changes nothing',
  within,
  async (t) => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-upstreams-')));
    t.after(() => rm(directory, { recursive: true }));
    const [first, second] = [await another(t), await another(t)];
    const file = join(directory, 'upstreams.json');
    const put = async (text: string) => {
      await writeFile(file, text);
      await chmod(file, 0o600);
    };
    await put(listOf(['one', key('first'), first]));
    const service = await startService({ env: { ANTHROPIC_API_KEY: '', SALLYPORT_UPSTREAMS_FILE: file } });
    t.after(() => service.close());
    const ask = async () => assert.equal((await query(service, { prompt: 'Hello', timeout })).status, 200);
    const told = (words: string) => until(() => service.logs.some((line) => line.includes(words)));

    await ask();
    assert.ok(first.requests.length > 0);
    await put(listOf(['one', key('second'), second]).slice(0, -20));
    await told('those before stay');
    await ask();
    assert.equal(second.requests.length, 0);
    await put(listOf(['one', key('second'), second]));
    await told('upstreams have changed');
    const before = first.requests.length;
    await ask();
    assert.equal(first.requests.length, before);
    assert.ok(second.requests.length > 0);
    const settings = await fetch(`${service.url}/api/admin/settings`, {
      headers: { authorization: `Bearer ${masterKey}` },
    });
    const shown = await settings.text();
    assert.match(shown, /SALLYPORT_UPSTREAMS/u);
    for (const text of [shown, ...service.logs]) assert.ok(!text.includes('canary-key'), text);
  },
);
