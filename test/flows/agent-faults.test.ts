import assert from 'node:assert/strict';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { ComposeOptions } from '@sallyport/server';
import type { Step } from '@sallyport/simulator';
import { call, logOf } from '../support/approvals.ts';
import { claudeInJail, untilGone } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { agentsOf } from '../support/processes.ts';
import { callsWith, rows, scripted, until } from '../support/runs.ts';
import { startService, unshared, type TestService } from '../support/service.ts';

type Stores = Parameters<NonNullable<ComposeOptions['stores']>>[0];
type Body = Record<string, any>;

/** Stores on a disk that is full for some of them. */
const full = new Set<'events' | 'transcripts' | 'usage' | 'ends'>();
const onDisk = (stores: Stores): Stores => {
  const guarded = <A extends unknown[], R>(part: string, work: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      if ([...full].some((each) => each === part)) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
      return await work(...args);
    };
  };
  const { turns, transcripts, usage } = stores;
  return {
    ...stores,
    turns: {
      ...turns,
      accept: guarded('events', turns.accept),
      acceptNext: guarded('events', turns.acceptNext),
      begin: guarded('events', turns.begin),
      append: guarded('events', turns.append),
      count: guarded('events', turns.count),
      finish: guarded('ends', turns.finish),
      check: guarded('events', turns.check),
    },
    transcripts: { ...transcripts, append: guarded('transcripts', transcripts.append) },
    usage: { ...usage, record: guarded('usage', usage.record) },
  };
};

let service: TestService;
before(async () => {
  // One place: what does not give its own back is seen.
  service = await startService({
    stores: onDisk,
    env: { ...unshared, SALLYPORT_MAX_PROCESSES: '1', SALLYPORT_MAX_WAITING: '0' },
  });
});
after(() => service.close());
beforeEach(async () => {
  full.clear();
  // Processes that wait for a next turn are of no use to the next test.
  const { body } = await call(service, 'GET', 'conversation');
  for (const { session_id: id } of body['items'] as Body[]) await call(service, 'DELETE', `conversation/${id}`);
  await untilGone(() => agentsOf(service));
});

const jailed = { skip: leftOut('faults of a jailed Claude Code', ['bwrap', 'socat']) };
const write = (path: string, content: string): Step => ({
  tools: [{ name: 'Write', input: { file_path: `/workspace/${path}`, content } }],
});
const endless: Step = { text: 'word '.repeat(400), rate: 10 };

const start = (id: string, steps: readonly Step[], more: object = {}) =>
  call(service, 'POST', `conversation/start?session_id=${id}`, {
    prompt: scripted(steps),
    permission_mode: 'acceptEdits',
    allowed_tools: ['Read', 'Write', 'Bash'],
    ...more,
  });
const next = (id: string, steps: readonly Step[], words = '') =>
  call(service, 'POST', `conversation/${id}/continue`, { session_id: id, message: scripted(steps, words) });

/** Begins a conversation that has a past and a file, with a process that waits. */
async function begun(id: string, more: object = {}): Promise<void> {
  const { body } = await start(id, [write('a.txt', 'alpha'), { text: 'I remember this.' }], more);
  assert.equal(body['success'], true, JSON.stringify(body));
}

/** The next turn works, with the same past and the same file. */
async function goesOn(id: string): Promise<void> {
  const read: Step = { tools: [{ name: 'Read', input: { file_path: '/workspace/a.txt' } }] };
  const word = `goes-on-${id}-${callsWith(service, 'goes-on').length}`;
  const { status, body } = await next(id, [read, { text: 'Still here.' }], word);
  assert.deepEqual([status, body['success']], [200, true], JSON.stringify(body));
  assert.equal(body['new_messages'].at(-1).content, 'Still here.');
  const sent = JSON.stringify(callsWith(service, word).at(-1)?.body);
  assert.ok(sent.includes('I remember this.') && sent.includes('alpha'));
}

const ends = async (id: string) => (await logOf(service, id)).filter(({ type }) => type === 'result');
const ready = async () => {
  const response = await fetch(`${service.url}/readyz`);
  return [response.status, ((await response.json()) as Body)['failing'] ?? []];
};

describe('Claude Code itself fails', () => {
  test('killed in a turn: the turn ends as a crash, and the next one goes on', jailed, async () => {
    await begun('killed');
    const turn = next('killed', [endless], 'killed-turn');
    await until(() => callsWith(service, 'killed-turn').length === 1);
    await until(async () => (await logOf(service, 'killed')).at(-1)?.['type'] === 'text_delta');
    process.kill(await claudeInJail(service), 'SIGKILL');
    const { status, body } = await turn;
    assert.deepEqual([status, body['code']], [502, 'agent_crashed'], JSON.stringify(body));
    assert.deepEqual(
      (await ends('killed')).map(({ code }) => code),
      [null, 'agent_crashed'],
    );
    assert.deepEqual(service.sallyport.processes(), []);
    await goesOn('killed');
    const other = await call(service, 'POST', 'query', { prompt: scripted([{ text: 'Hi.' }]) });
    assert.equal(other.body['success'], true, 'its place is free');
  });

  test(
    'killed while a tool runs: the turn ends, nothing of the tool is left, and the next one goes on',
    jailed,
    async () => {
      await begun('killed-tool');
      const turn = next('killed-tool', [{ tools: [{ name: 'Bash', input: { command: 'sleep 600' } }] }, { text: '' }]);
      await until(async () => (await agentsOf(service)).some(({ command }) => command.startsWith('sleep 600')));
      process.kill(await claudeInJail(service), 'SIGKILL');
      const { status, body } = await turn;
      assert.deepEqual([status, body['code']], [502, 'agent_crashed'], JSON.stringify(body));
      assert.equal((await ends('killed-tool')).at(-1)?.['changes_truncated'], true);
      await untilGone(() => agentsOf(service));
      await goesOn('killed-tool');
    },
  );

  test('stopped (SIGSTOP) in a turn: the timeout ends it, and the next one goes on', jailed, async () => {
    await begun('frozen', { timeout: 10 });
    const turn = next('frozen', [endless], 'frozen-turn');
    await until(() => callsWith(service, 'frozen-turn').length === 1);
    process.kill(await claudeInJail(service), 'SIGSTOP');
    const { status, body } = await turn;
    assert.deepEqual([status, body['stop_reason']], [200, 'timeout'], JSON.stringify(body));
    await untilGone(() => agentsOf(service));
    await goesOn('frozen');
  });

  test('killed or stopped between turns: the next turn works', jailed, async () => {
    await begun('idle', { timeout: 10 });
    process.kill(await claudeInJail(service), 'SIGKILL');
    await untilGone(() => agentsOf(service));
    await goesOn('idle');
    // Before anybody can have noticed.
    process.kill(await claudeInJail(service), 'SIGKILL');
    await goesOn('idle');
    process.kill(await claudeInJail(service), 'SIGSTOP');
    const { body } = await next('idle', [{ text: 'Frozen?' }]);
    if (body['success'] !== true) assert.equal(body['stop_reason'], 'timeout', JSON.stringify(body));
    await goesOn('idle');
  });
});

describe('the disk is full', () => {
  const parts: Readonly<Record<string, readonly ('events' | 'transcripts' | 'usage' | 'ends')[]>> = {
    'for events': ['events'],
    'for transcripts': ['transcripts'],
    'for the ends of turns': ['ends'],
    'for everything': ['events', 'transcripts', 'usage', 'ends'],
  };
  for (const [name, stores] of Object.entries(parts)) {
    test(`${name}: the turn fails once, the service lives, and the next turn works when there is space`, async () => {
      const id = `full-${stores.join('-')}`;
      await begun(id);
      const slow: Step = {
        text: 'word '.repeat(10),
        rate: 20,
        tools: [{ name: 'Read', input: { file_path: 'a.txt' } }],
      };
      const turn = next(id, [slow, { text: 'End.' }], `${id}-turn`);
      await until(() => callsWith(service, `${id}-turn`).length === 1);
      for (const each of stores) full.add(each);
      const { status, body } = await turn;
      assert.deepEqual([status, body['code']], [507, 'storage_full'], JSON.stringify(body));
      if (stores.includes('events')) {
        assert.deepEqual(await ready(), [503, ['store']]);
        const refused = await call(service, 'POST', 'query', { prompt: 'Hi.' });
        assert.deepEqual([refused.status, refused.body['code']], [507, 'storage_full']);
      }
      assert.equal((await fetch(`${service.url}/livez`)).status, 200);
      assert.equal((await call(service, 'GET', `conversation/${id}/messages`)).status, 200);
      full.clear();
      assert.deepEqual(await ready(), [200, []]);
      await goesOn(id);
      assert.equal((await ends(id)).length, 3, 'each turn has one end');
      assert.deepEqual(rows(service, 'select id from turns where ended_at is null'), []);
    });
  }

  test(
    'what a turn leaves is more than may be kept: it fails, and the next one has the files from before',
    jailed,
    async () => {
      await begun('large');
      const tools = [{ name: 'Bash', input: { command: 'truncate -s 2G large; echo changed > a.txt' } }];
      const { status, body } = await next('large', [{ tools }, { text: 'Made.' }]);
      assert.deepEqual([status, body['code']], [507, 'storage_full'], JSON.stringify(body));
      await goesOn('large');
      const { body: listed } = await call(service, 'GET', 'conversation/large/files');
      assert.deepEqual(
        (listed['items'] as Body[]).map(({ path }) => path),
        ['a.txt'],
      );
    },
  );

  test('the directory of kept files cannot be written: the turn fails, and the next one works when it can', async () => {
    await begun('unkept');
    const kept = join(service.dataDir, 'workspaces');
    await rename(kept, `${kept}.away`);
    await writeFile(kept, 'in the way');
    const { status, body } = await next('unkept', [write('b.txt', 'b'), { text: 'Made.' }]);
    assert.ok(status >= 500, JSON.stringify(body));
    assert.equal((await ends('unkept')).length, 2);
    await rm(kept);
    await rename(`${kept}.away`, kept);
    await goesOn('unkept');
  });
});
