import assert from 'node:assert/strict';
import { mkdir, readFile, chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { call, decide, logAtRest, pendingIn } from '../support/approvals.ts';
import { restartable, type Restartable } from '../support/restart.ts';
import { callsWith, scripted, until } from '../support/runs.ts';

/** How a turn waits for its human. */
interface Way {
  readonly env: Readonly<Record<string, string>>;
  /** Happens while the human is awaited. */
  readonly meanwhile: (service: Restartable) => Promise<void>;
}

const ways: Readonly<Record<string, Way>> = {
  'in a process that is held': { env: {}, meanwhile: async () => {} },
  'with no process held': {
    env: { SALLYPORT_APPROVAL_HOLD: '0' },
    // The process is gone before the human decides.
    meanwhile: (service) => until(async () => (await processes(service)) === 0),
  },
  'while the service is killed and started again': { env: {}, meanwhile: (service) => service.killAndRestart() },
};

/** Processes of Claude Code that the service's own process has. */
async function processes({ program }: Restartable): Promise<number> {
  const children = await readFile(`/proc/${program.pid}/task/${program.pid}/children`, 'utf8');
  return children.split(' ').filter((pid) => pid !== '').length;
}

const write = (path: string, content: string) => ({ name: 'Write', input: { file_path: path, content } });

/** A conversation in a project directory whose first turn is going. */
async function started(context: TestContext, way: Way, steps: Parameters<typeof scripted>[0], tools?: string[]) {
  const service = await restartable(context, { env: way.env });
  const project = join(service.root, 'project');
  await mkdir(project);
  await chmod(project, 0o777);
  await writeFile(join(project, 'old.txt'), 'first line\nsecond line\n');
  await chmod(join(project, 'old.txt'), 0o666);
  const body = { prompt: scripted(steps), project_path: project, ...(tools && { allowed_tools: tools }) };
  // The answer is lost where the service is killed.
  const answer = call(service, 'POST', 'conversation/start?session_id=work', body).catch(() => null);
  return { service, project, answer };
}

const typesOf = (log: readonly Record<string, any>[]) => log.map(({ type }) => type as string);
const textOf = (log: readonly Record<string, any>[]) =>
  log
    .filter(({ type }) => type === 'text_delta')
    .map(({ content }) => content as string)
    .join('');
const count = (log: readonly Record<string, any>[], type: string) => typesOf(log).filter((one) => one === type).length;
/** Model calls of a conversation's turn, each told by how it ended. */
const calls = (service: Restartable) => callsWith(service, 'simulate').length;

for (const [name, way] of Object.entries(ways)) {
  describe(`an approval that is awaited ${name}`, () => {
    test('shows the exact input and the diff, and the allowed edit is made once', async (context) => {
      const { service, project } = await started(context, way, [
        { text: 'I will edit. ', tools: [{ name: 'Read', input: { file_path: 'old.txt' } }] },
        { tools: [{ name: 'Edit', input: { file_path: 'old.txt', old_string: 'second', new_string: 'changed $&' } }] },
        { text: 'Done.' },
      ]);
      const approval = await pendingIn(service, 'work');
      assert.deepEqual([approval['tool'], approval['kind'], approval['status']], ['Edit', 'tool', 'pending']);
      assert.equal(approval['input'].new_string, 'changed $&');
      assert.match(approval['diff'], /^-second line$/mu);
      assert.match(approval['diff'], /^\+changed \$& line$/mu);
      await way.meanwhile(service);
      assert.equal((await call(service, 'GET', 'conversation/work/info')).body['status'], 'waiting');
      await decide(service, await pendingIn(service, 'work'), { decision: 'allow' });
      const log = await logAtRest(service, 'work');
      assert.equal(await readFile(join(project, 'old.txt'), 'utf8'), 'first line\nchanged $& line\n');
      assert.equal(log.at(-1)?.['stop_reason'], 'end_turn', JSON.stringify(log.at(-1)));
      assert.equal(textOf(log), 'I will edit. Done.');
      const of = (type: string) => log.filter((event) => event['type'] === type);
      assert.equal(of('approval_requested').length, 1);
      assert.deepEqual(
        of('approval_decided').map(({ status, decided_by }) => [status, decided_by]),
        [['allowed', 'key-1']],
      );
      assert.deepEqual(
        of('tool_start').map((event) => event['name']),
        ['Read', 'Edit'],
      );
      assert.deepEqual(
        of('tool_end').map((event) => event['ok']),
        [true, true],
      );
      assert.equal(calls(service), 3, 'the model is not asked the same twice');
      const { body } = await call(service, 'GET', 'conversation/work/diff');
      assert.match(body['changes'], /^\+changed \$& line$/mu);
    });

    test('a denial with a message reaches Claude and changes nothing', async (context) => {
      const { service, project } = await started(context, way, [
        { tools: [write('new.txt', 'made')] },
        { text: 'I see.' },
      ]);
      const approval = await pendingIn(service, 'work');
      await way.meanwhile(service);
      await decide(service, approval, { decision: 'deny', message: 'Use another name.' });
      const log = await logAtRest(service, 'work');
      assert.equal(log.at(-1)?.['stop_reason'], 'end_turn', JSON.stringify(log.at(-1)));
      assert.equal(textOf(log), 'I see.');
      assert.equal(count(log, 'tool_start'), 0);
      await assert.rejects(readFile(join(project, 'new.txt')));
      assert.match(JSON.stringify(service.simulator.requests.at(-1)?.body), /Use another name\./u);
      assert.equal(calls(service), 2);
    });

    test('an input that the human changed is what the tool is called with', async (context) => {
      const { service, project } = await started(context, way, [
        { tools: [write('new.txt', 'by Claude')] },
        { text: 'Fine.' },
      ]);
      const approval = await pendingIn(service, 'work');
      await way.meanwhile(service);
      const changed = { ...approval['input'], content: 'by the human' };
      await decide(service, approval, { decision: 'allow', updated_input: changed });
      const log = await logAtRest(service, 'work');
      assert.equal(log.at(-1)?.['stop_reason'], 'end_turn', JSON.stringify(log.at(-1)));
      assert.equal(await readFile(join(project, 'new.txt'), 'utf8'), 'by the human');
      const start = log.find(({ type }) => type === 'tool_start');
      assert.equal(start?.['input'].content, 'by the human');
      assert.equal(count(log, 'tool_start'), 1);
    });

    test('a command that the human changed is the one that runs', async (context) => {
      const { service, project } = await started(
        context,
        way,
        [{ tools: [{ name: 'Bash', input: { command: 'ls' } }] }, { text: 'Ran.' }],
        ['Bash', 'Read'],
      );
      const approval = await pendingIn(service, 'work');
      await way.meanwhile(service);
      await decide(service, approval, { decision: 'allow', updated_input: { command: 'echo changed > ran.txt' } });
      const log = await logAtRest(service, 'work');
      assert.equal(log.at(-1)?.['stop_reason'], 'end_turn', JSON.stringify(log.at(-1)));
      assert.equal(await readFile(join(project, 'ran.txt'), 'utf8'), 'changed\n');
      assert.equal(count(log, 'tool_start'), 1);
    });

    test('of several calls in one answer each is asked and made once', async (context) => {
      // Where no process is held, what comes after the first open call of an answer is not made: see below.
      const parallel = way.env['SALLYPORT_APPROVAL_HOLD'] !== '0';
      const { service, project } = await started(context, way, [
        { text: 'Two. ', tools: [write('a.txt', 'a'), write('b.txt', 'b')], parallel },
        { text: 'Both.' },
      ]);
      const first = await pendingIn(service, 'work');
      await decide(service, first, { decision: 'allow' });
      let second = first;
      while (second['approval_id'] === first['approval_id']) second = await pendingIn(service, 'work');
      await way.meanwhile(service);
      await decide(service, second, { decision: 'allow' });
      const log = await logAtRest(service, 'work');
      assert.equal(log.at(-1)?.['stop_reason'], 'end_turn', JSON.stringify(log.at(-1)));
      assert.equal(textOf(log), 'Two. Both.');
      assert.deepEqual([count(log, 'tool_start'), count(log, 'tool_end')], [2, 2]);
      for (const file of ['a', 'b']) assert.equal(await readFile(join(project, `${file}.txt`), 'utf8'), file);
      assert.equal(calls(service), parallel ? 2 : 3);
    });

    test('a question gets its answer', async (context) => {
      const question = 'Which colour?';
      const options = [
        { label: 'Red', description: 'like a rose' },
        { label: 'Blue', description: 'like the sky' },
      ];
      const input = { questions: [{ question, header: 'Colour', options, multiSelect: false }] };
      const { service } = await started(
        context,
        way,
        [{ tools: [{ name: 'AskUserQuestion', input }] }, { text: 'Blue it is.' }],
        ['Read', 'AskUserQuestion'],
      );
      const approval = await pendingIn(service, 'work');
      assert.equal(approval['kind'], 'question');
      const path = `approvals/${approval['approval_id']}`;
      const wrong = await call(service, 'POST', path, { decision: 'allow', answers: { other: 'x' } });
      assert.equal(wrong.status, 422, JSON.stringify(wrong.body));
      await way.meanwhile(service);
      await decide(service, approval, { decision: 'allow', answers: { [question]: 'Blue' } });
      const log = await logAtRest(service, 'work');
      assert.equal(log.at(-1)?.['stop_reason'], 'end_turn', JSON.stringify(log.at(-1)));
      assert.equal(textOf(log), 'Blue it is.');
      const sent = JSON.stringify(service.simulator.requests.at(-1)?.body);
      assert.match(sent, /Which colour\?[^{}]*Blue/u);
      assert.equal(calls(service), 2);
    });

    test('an interrupt ends the turn, the approval with it, and the conversation goes on', async (context) => {
      const { service, project } = await started(context, way, [{ tools: [write('new.txt', 'x')] }, { text: 'no' }]);
      const approval = await pendingIn(service, 'work');
      await way.meanwhile(service);
      assert.equal((await call(service, 'POST', 'conversation/work/interrupt')).body['interrupted'], true);
      const log = await logAtRest(service, 'work');
      assert.equal(log.at(-1)?.['stop_reason'], 'interrupted');
      const after = await call(service, 'GET', `approvals/${approval['approval_id']}`);
      assert.equal(after.body['status'], 'cancelled');
      const late = await call(service, 'POST', `approvals/${approval['approval_id']}`, { decision: 'allow' });
      assert.deepEqual([late.status, late.body['code']], [409, 'already_decided']);
      await assert.rejects(readFile(join(project, 'new.txt')));
      const message = scripted([{ text: 'Still here.' }]);
      const next = await call(service, 'POST', 'conversation/work/continue', { session_id: 'work', message });
      assert.equal(next.body['success'], true, JSON.stringify(next.body));
      assert.equal(next.body['new_messages'].at(-1).content, 'Still here.');
    });
  });
}

test('of several calls that an upstream makes at once although told not to, those after a freed one are to be made again', async (context) => {
  const { service, project } = await started(context, ways['with no process held']!, [
    { tools: [write('a.txt', 'a'), write('b.txt', 'b')], parallel: true },
    { tools: [write('b.txt', 'b')] },
    { text: 'Both.' },
  ]);
  const first = await pendingIn(service, 'work');
  await decide(service, first, { decision: 'allow' });
  let second = first;
  while (second['approval_id'] === first['approval_id']) second = await pendingIn(service, 'work');
  assert.match(JSON.stringify(service.simulator.requests.at(-1)?.body), /Make it again/u);
  await decide(service, second, { decision: 'allow' });
  assert.equal((await logAtRest(service, 'work')).at(-1)?.['stop_reason'], 'end_turn');
  for (const file of ['a', 'b']) assert.equal(await readFile(join(project, `${file}.txt`), 'utf8'), file);
});

test('two decisions at once: one counts', async (context) => {
  const { service } = await started(context, ways['in a process that is held']!, [
    { tools: [write('new.txt', 'x')] },
    { text: 'end' },
  ]);
  const approval = await pendingIn(service, 'work');
  const path = `approvals/${approval['approval_id']}`;
  const decisions = Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? 'allow' : 'deny'));
  const answers = await Promise.all(decisions.map((decision) => call(service, 'POST', path, { decision })));
  assert.deepEqual(
    answers.map(({ status }) => status).toSorted((a, b) => a - b),
    [200, ...Array<number>(19).fill(409)],
  );
  const log = await logAtRest(service, 'work');
  const won = answers.find(({ status }) => status === 200)?.body['status'];
  assert.equal(log.find(({ type }) => type === 'approval_decided')?.['status'], won);
  assert.equal(count(log, 'tool_start'), won === 'allowed' ? 1 : 0);
});

test('nobody decides in time: the call is denied with a reason that Claude can read', async (context) => {
  const env = { SALLYPORT_APPROVAL_TTL: '2' };
  const { service, answer } = await started(context, { env, meanwhile: async () => {} }, [
    { tools: [write('new.txt', 'x')] },
    { text: 'Then not.' },
  ]);
  const approval = await pendingIn(service, 'work');
  const ended = await answer;
  assert.equal(ended?.body['success'], true, JSON.stringify(ended?.body));
  assert.match(JSON.stringify(service.simulator.requests.at(-1)?.body), /Nobody answered in time/u);
  const late = await call(service, 'POST', `approvals/${approval['approval_id']}`, { decision: 'allow' });
  assert.deepEqual([late.status, late.body['code']], [409, 'already_decided']);
  assert.equal((await call(service, 'GET', `approvals/${approval['approval_id']}`)).body['status'], 'expired');
});

test('"for this conversation" allows equal calls from then on, in this conversation only', async (context) => {
  const way = ways['in a process that is held']!;
  const { service, project, answer } = await started(context, way, [
    { tools: [write('a.txt', 'a')] },
    { tools: [write('b.txt', 'b')] },
    { text: 'Both.' },
  ]);
  await decide(service, await pendingIn(service, 'work'), { decision: 'allow', remember: 'conversation' });
  assert.equal((await answer)?.body['success'], true);
  assert.equal(await readFile(join(project, 'b.txt'), 'utf8'), 'b');
  const prompt = scripted([{ tools: [write('c.txt', 'c')] }, { text: 'other' }]);
  const other = call(service, 'POST', 'conversation/start?session_id=other', { prompt, project_path: project });
  await decide(service, await pendingIn(service, 'other'), { decision: 'deny' });
  assert.equal((await other).body['success'], true);
});

test('a start that still waits after its timeout is answered with what it waits for, and goes on', async (context) => {
  const service = await restartable(context);
  const prompt = scripted([{ tools: [write('a.txt', 'a')] }, { text: 'Later.' }]);
  const started = await call(service, 'POST', 'conversation/start?session_id=work', { prompt, timeout: 10 });
  assert.equal(started.status, 202, JSON.stringify(started.body));
  assert.deepEqual([started.body['status'], started.body['success']], ['waiting', false]);
  await decide(service, started.body['approvals'][0], { decision: 'allow' });
  assert.equal((await logAtRest(service, 'work')).at(-1)?.['stop_reason'], 'end_turn');
});

test('in a query waiting counts: at the deadline the approval expires and the run ends as timeout', async (context) => {
  const service = await restartable(context);
  const prompt = scripted([{ tools: [write('a.txt', 'a')] }, { text: 'never' }]);
  const { status, body } = await call(service, 'POST', 'query', { prompt, timeout: 10 });
  assert.deepEqual([status, body['stop_reason']], [200, 'timeout'], JSON.stringify(body));
  const inbox = await call(service, 'GET', 'approvals');
  assert.equal(inbox.body['items'][0].status, 'expired');
});
