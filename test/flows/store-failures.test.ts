import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { errorBody } from '@sallyport/protocol';
import type { Step } from '@sallyport/simulator';
import { failingStores, metadataOf, ways, type Plan, type Way } from '../support/failing-stores.ts';
import { leftOut } from '../support/needs.ts';
import { agentsOf } from '../support/processes.ts';
import { callsWith, rows, scripted, stream } from '../support/runs.ts';
import { query, startService, unshared, type TestService } from '../support/service.ts';

let base: string;
let service: TestService & { dataDir: string };
const start = async () => {
  const dataDir = join(base, 'data');
  const root = join(base, 'projects');
  const env = { ...unshared, SALLYPORT_DATA_DIR: dataDir, SALLYPORT_WORKSPACE_ROOTS: root };
  return { ...(await startService({ stores: failingStores, env })), dataDir, root };
};
before(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'sp-stores-')));
  await chmod(base, 0o755);
  await mkdir(join(base, 'projects'));
  service = await start();
});
after(async () => {
  await service.close();
  await rm(base, { recursive: true });
});

const timeout = 300;
const atOnce = { concurrency: 5 };
let number = 0;

interface Run {
  readonly word: string;
  readonly request: object;
  /** Whether a tool left its mark in the project. */
  ran(name: string): boolean;
  /** Types of the events that are stored. */
  stored(): string[];
  /** State of the turn; undefined when there is none. */
  state(): string | undefined;
}

/** A run that says something, leaves a mark in its project with a tool, and says that it did. */
async function planned(plan: Plan, tools?: (at: (name: string) => string) => Step['tools']): Promise<Run> {
  const word = `store-run-${(number += 1)}-`;
  const project_path = join(service.root, word);
  await mkdir(project_path);
  await chmod(project_path, 0o777);
  const at = (name: string) => join(project_path, name);
  const given = tools?.(at) ?? [{ name: 'Write', input: { file_path: at('mark'), content: 'x' } }];
  const turns = () => rows(service, 'select conversation, state from turns where instr(request, ?) > 0', word);
  return {
    word,
    request: {
      prompt: scripted([{ text: 'I begin.', tools: given }, { text: 'Done.' }], word),
      project_path,
      permission_mode: 'acceptEdits',
      allowed_tools: ['Read', 'Write', 'Bash'],
      metadata: metadataOf(plan),
      timeout,
    },
    ran: (name) => existsSync(at(name)),
    stored: () =>
      rows(
        service,
        'select type from events where conversation = ? order by seq',
        turns()[0]?.['conversation'] ?? '',
      ).map(({ type }) => type),
    state: () => turns()[0]?.['state'],
  };
}

function assertFailed(way: Way, status: number, body: unknown): void {
  const { code } = errorBody.parse(body);
  assert.deepEqual([status, code], way === 'full' ? [507, 'storage_full'] : [500, 'internal']);
}

/** No tool runs whose start is not in the log. */
function assertAccounted({ ran, stored }: Run): void {
  if (ran('mark')) assert.ok(stored().includes('tool_start'), stored().join(' '));
}

describe('where the log cannot be written before a tool, the tool does not run', atOnce, () => {
  for (const at of ['accept', 'begin', 'text', 'tool_start'] as const) {
    for (const way of ways) {
      test(`${at}: ${way}`, async () => {
        const run = await planned({ at, way });
        const { status, body } = await query(service, run.request);
        assertFailed(way, status, body);
        assert.equal(run.ran('mark'), false);
        const failsBefore = at === 'accept' || at === 'begin';
        assert.equal(callsWith(service, run.word).length, failsBefore ? 0 : 1);
        // Where nothing ran for want of space, nothing is left either: the same request may come again.
        const nothing = at === 'begin' && way === 'full';
        if (at !== 'accept') assert.equal(run.state(), nothing ? undefined : 'failed');
        assert.equal(run.stored().includes('tool_start'), at === 'tool_start' && way === 'lost');
      });
    }
  }

  test('a command is no exception', { skip: leftOut('commands in a jail', ['bwrap', 'socat']) }, async () => {
    for (const way of ways) {
      const bash = (at: (name: string) => string) => [{ name: 'Bash', input: { command: `touch ${at('mark')}` } }];
      const well = await planned({ at: 'tool_start', way, times: 0 }, bash);
      assert.equal((await query(service, well.request)).body['success'], true);
      assert.equal(well.ran('mark'), true);
      const run = await planned({ at: 'tool_start', way }, bash);
      const { status, body } = await query(service, run.request);
      assertFailed(way, status, body);
      assert.equal(run.ran('mark'), false);
    }
  });

  test('the second tool of an answer is no exception', async () => {
    for (const way of ways) {
      const run = await planned({ at: 'tool_start', way, after: 1 }, (at) =>
        ['mark', 'second'].map((name) => ({ name: 'Write', input: { file_path: at(name), content: 'x' } })),
      );
      const { status, body } = await query(service, run.request);
      assertFailed(way, status, body);
      assert.equal(run.ran('second'), false);
      assertAccounted(run);
    }
  });
});

describe('where it cannot be written later, the run fails and is accounted for', atOnce, () => {
  for (const at of ['tool_end', 'usage', 'transcript'] as const) {
    for (const way of ways) {
      test(`${at}: ${way}`, async () => {
        const run = await planned({ at, way });
        const { status, body } = await query(service, run.request);
        assertFailed(way, status, body);
        assertAccounted(run);
        assert.equal(run.state(), 'failed');
        assert.equal(run.stored().at(-1), 'result');
        assert.equal(run.ran('mark') && at === 'tool_end', at === 'tool_end');
        assert.ok(callsWith(service, run.word).length <= 2);
      });
    }
  }

  test('a denial that cannot be stored fails the run too', async () => {
    const run = await planned({ at: 'tool_denied', way: 'reject' }, () => [
      { name: 'Write', input: { file_path: '/etc/mark', content: 'x' } },
    ]);
    const { status, body } = await query(service, run.request);
    assertFailed('reject', status, body);
    assert.equal(run.state(), 'failed');
  });

  for (const way of ways) {
    test(`the end: ${way} always`, async () => {
      const run = await planned({ at: 'finish', way });
      const { status, body } = await query(service, run.request);
      assertFailed(way, status, body);
      assert.equal(run.ran('mark'), true);
      assertAccounted(run);
    });
  }
});

test('an answer that cannot be read back is an error, and its run is kept', async () => {
  const run = await planned({ at: 'read', way: 'reject' });
  const { status, body } = await query(service, run.request);
  assertFailed('reject', status, body);
  assert.deepEqual([run.state(), run.stored().at(-1)], ['completed', 'result']);
});

describe('what passes by does no harm', atOnce, () => {
  for (const way of ['reject', 'hang', 'full'] as const) {
    test(`the end: ${way} once`, async () => {
      const run = await planned({ at: 'finish', way, times: 1 });
      const { status, body } = await query(service, run.request);
      assert.deepEqual([status, body['success'], run.state(), run.stored().at(-1)], [200, true, 'completed', 'result']);
      assert.equal(run.ran('mark'), true);
    });

    test(`the transcript: ${way} once`, async () => {
      const run = await planned({ at: 'transcript', way, times: 1 });
      const { status, body } = await query(service, run.request);
      if (status !== 200) assertFailed(way, status, body);
      assertAccounted(run);
      assert.equal(run.state(), status === 200 ? 'completed' : 'failed');
    });
  }
});

describe('on a stream', atOnce, () => {
  for (const at of ['tool_start', 'finish'] as const) {
    test(`a failure at ${at} is the last event`, async () => {
      const run = await planned({ at, way: 'reject' });
      const streamed = await stream(service, run.request);
      assert.equal(streamed.status, 200);
      assert.equal(streamed.last, '[DONE]');
      const { event } = streamed.events.at(-1)!;
      assert.ok(event.type === 'result');
      assert.deepEqual(
        [event.is_complete, event.success, event.stop_reason, event.code],
        [true, false, 'error', 'internal'],
      );
      assert.ok(event.error);
      assert.equal(run.ran('mark'), at === 'finish');
      assertAccounted(run);
    });
  }
});

test('the service lives on, and an end that could not be stored is made good at the next start', async () => {
  assert.deepEqual(service.sallyport.processes(), []);
  assert.deepEqual(await agentsOf(service), []);
  assert.equal((await fetch(`${service.url}/readyz`)).status, 200);
  const { body } = await query(service, { prompt: scripted([{ text: 'Alive.' }]), timeout });
  assert.equal(body['success'], true);

  const unfinished = rows(service, 'select id from turns where ended_at is null');
  assert.ok(unfinished.length > 0);
  await service.close();
  service = await start();
  assert.deepEqual(rows(service, 'select id from turns where ended_at is null'), []);
  for (const { id } of unfinished) {
    const ends = rows(service, "select payload from events where turn = ? and type = 'result'", id);
    assert.equal(ends.length, 1);
    assert.equal(JSON.parse(ends[0]?.['payload']).result.stop_reason, 'interrupted');
  }
  assert.equal((await query(service, { prompt: scripted([{ text: 'Alive.' }]), timeout })).body['success'], true);
});
