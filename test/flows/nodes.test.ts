import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { call, decide, logAtRest, logOf, pendingIn } from '../support/approvals.ts';
import { nodesOn, type TestNode, type TestNodes } from '../support/nodes.ts';
import { leftOutWithoutPostgres, startPostgres, type PostgresServer } from '../support/postgres.ts';
import { processesWith } from '../support/processes.ts';
import { answerOf, scripted, until } from '../support/runs.ts';
import { query } from '../support/service.ts';

const tool = (name: string, input: Record<string, unknown>): Step => ({ tools: [{ name, input }] });
const write = (path: string) => tool('Write', { file_path: `/workspace/${path}`, content: `in ${path}\n` });
const read = (path: string) => tool('Read', { file_path: `/workspace/${path}` });
/** Longer than any test: what is told so is cut. */
const slow: Step = { text: 'slowly told. '.repeat(300), rate: 20 };

const start = (node: TestNode, id: string, body: Record<string, unknown>) =>
  query(node, body, { path: `/api/claude/conversation/start?session_id=${id}` }).catch(() => null);
const say = (node: TestNode, id: string, message: string) =>
  query(node, { session_id: id, message }, { path: `/api/claude/conversation/${id}/continue` });
const saying = (node: TestNode, id: string, message: string) => say(node, id, message).catch(() => null);

/** Waits until the log of a conversation ends with such an event. */
const reached = (node: TestNode, id: string, type: string) =>
  until(async () => (await logOf(node, id).catch(() => [])).at(-1)?.['type'] === type);

/** Longer than any test: nothing may wait for its end. */
const longLease = 300;

const endsOf = (log: readonly Record<string, any>[]) =>
  log.filter(({ type }) => type === 'result').map((end) => end['stop_reason'] as string);

/** Every turn has one end, no log has a gap, and nothing runs. */
async function assertWhole({ rows }: TestNodes): Promise<void> {
  const logs = await rows<{ conversation: string; last: string; events: string; ends: string; turns: string }>(
    `select conversation, max(seq) as last, count(*) as events, count(distinct turn) as turns,
      count(*) filter (where type = 'result') as ends from events group by conversation`,
  );
  for (const { conversation, last, events, ends, turns } of logs) {
    assert.deepEqual([events, ends], [last, turns], conversation);
  }
  assert.deepEqual(await rows('select id from turns where ended_at is null'), []);
}

describe('several nodes', { skip: leftOutWithoutPostgres('several nodes') }, () => {
  let postgres: PostgresServer;
  let made = 0;
  before(async () => {
    postgres = await startPostgres();
  });
  after(() => postgres.close());

  async function twoNodes(context: TestContext, leaseSeconds?: number) {
    const nodes = await nodesOn(context, postgres, `nodes_${(made += 1)}`, leaseSeconds);
    return { nodes, one: await nodes.start('a'), other: await nodes.start('b') };
  }

  test('what ran on a node that is killed goes on or ends on another one, with all its past', async (context) => {
    const { nodes, one, other } = await twoNodes(context);
    const { simulator } = nodes;
    const edits = { permission_mode: 'acceptEdits' };
    await start(one, 'past', { ...edits, prompt: scripted([write('a.txt'), { text: 'Written.' }]) });
    simulator.play({ steps: [slow] });
    const lost = [
      saying(one, 'past', 'the second message'),
      start(one, 'text', { prompt: 'tell me' }),
      start(one, 'bash', {
        ...edits,
        allowed_tools: ['Bash'],
        prompt: scripted([tool('Bash', { command: 'sleep 300' })]),
      }),
      start(one, 'wrote', { ...edits, prompt: scripted([write('b.txt'), slow]) }),
      start(one, 'asked', { prompt: scripted([write('c.txt'), { text: 'Made.' }]) }),
      query(one, { prompt: 'nobody waits' }).catch(() => null),
    ];
    for (const id of ['past', 'text', 'wrote']) await reached(one, id, 'text_delta');
    await reached(one, 'bash', 'tool_start');
    const approval = await pendingIn(one, 'asked');
    simulator.play({ steps: [{ text: 'From the other node.' }] });
    one.program.signal('SIGKILL');
    await Promise.all(lost);

    for (const id of ['past', 'text']) {
      const log = await logAtRest(other, id);
      assert.deepEqual([log.at(-1)?.['type'], log.at(-1)?.['stop_reason']], ['result', 'end_turn'], id);
    }
    assert.deepEqual(endsOf(await logAtRest(other, 'bash')), ['interrupted']);
    const wrote = await logAtRest(other, 'wrote');
    assert.deepEqual(endsOf(wrote), ['interrupted']);
    assert.match(wrote.at(-1)?.['error'], /lost, and with it what Write did/u);
    assert.equal((await pendingIn(other, 'asked'))['approval_id'], approval['approval_id']);
    await decide(other, approval, { decision: 'allow' });
    const asked = await logAtRest(other, 'asked');
    assert.deepEqual(endsOf(asked), ['end_turn']);
    assert.equal(asked.filter(({ type }) => type === 'tool_start').length, 1);

    for (const [id, path] of [
      ['past', 'a.txt'],
      ['asked', 'c.txt'],
    ] as const) {
      const { body } = await say(other, id, scripted([read(path), { text: 'Read.' }]));
      assert.equal(body['success'], true, JSON.stringify(body));
      assert.match(JSON.stringify(simulator.requests.at(-1)?.body), new RegExp(`in ${path}`, 'u'));
    }
    const said = JSON.stringify(simulator.requests.at(-3)?.body);
    for (const words of ['Written.', 'the second message', 'From the other node.']) assert.ok(said.includes(words));
    const { body } = await call(other, 'GET', 'conversation/past/messages');
    const contents = (body['items'] as { content: string }[]).map(({ content }) => content);
    assert.deepEqual(
      contents.filter((content) => content !== '' && !content.includes('simulate')),
      ['Written.', 'the second message', 'From the other node.', 'Read.'],
    );
    await assertWhole(nodes);
  });

  test('a node that was frozen finds its turns elsewhere, ends its processes, and serves under another name', async (context) => {
    const { nodes, one, other } = await twoNodes(context);
    const names = async () =>
      (await nodes.rows<{ id: string }>('select id from nodes order by id')).map(({ id }) => id);
    const before = await names();
    nodes.simulator.play({ steps: [slow] });
    const lost = start(one, 'frozen', { prompt: 'tell me' });
    await reached(one, 'frozen', 'text_delta');
    one.program.signal('SIGSTOP');
    nodes.simulator.play({ steps: [{ text: 'From the other node.' }] });
    const log = await logAtRest(other, 'frozen');
    assert.deepEqual(endsOf(log), ['end_turn']);
    one.program.signal('SIGCONT');
    assert.equal((await lost)?.status, 503);
    await until(async () => (await names()).length === 2);
    assert.equal((await names()).filter((name) => !before.includes(name)).length, 1);
    await until(async () => (await processesWith(one.runDir)).every(({ command }) => !command.includes('claude')));
    assert.deepEqual(await logOf(other, 'frozen'), log);
    assert.equal((await fetch(`${one.url}/readyz`)).status, 200);
    const { body } = await say(one, 'frozen', scripted([{ text: 'Thawed.' }]));
    assert.equal(body['success'], true, JSON.stringify(body));
    assert.match(JSON.stringify(nodes.simulator.requests.at(-1)?.body), /From the other node/u);
    await assertWhole(nodes);
  });

  test('a node that alone cannot reach the database stops, and serves again when it can', async (context) => {
    const { nodes, one, other } = await twoNodes(context);
    nodes.simulator.play({ steps: [slow] });
    const lost = start(one, 'cut', { prompt: 'tell me' });
    await reached(one, 'cut', 'text_delta');
    nodes.simulator.play({ steps: [{ text: 'From the other node.' }] });
    one.cut();
    await until(async () => (await fetch(`${one.url}/readyz`)).status === 503);
    await until(async () => (await (await fetch(`${one.url}/readyz`)).text()).includes('lease'));
    assert.equal((await lost)?.status, 503);
    const refused = await query(one, { prompt: 'not now' });
    assert.deepEqual([refused.status, refused.body['code']], [503, 'not_ready']);
    await until(async () => (await processesWith(one.runDir)).every(({ command }) => !command.includes('claude')));
    assert.deepEqual(endsOf(await logAtRest(other, 'cut')), ['end_turn']);
    one.repair();
    await until(async () => (await fetch(`${one.url}/readyz`)).status === 200);
    const { body } = await say(one, 'cut', scripted([{ text: 'Back.' }]));
    assert.equal(body['success'], true, JSON.stringify(body));
    assert.match(answerOf({ messages: body['new_messages'] }), /Back/u);
    await assertWhole(nodes);
  });

  test('whatever node is asked, a turn is interrupted, deleted and decided where it runs', async (context) => {
    const { nodes, one, other } = await twoNodes(context, longLease);
    nodes.simulator.play({ steps: [slow] });
    const running = [start(one, 'stopped', { prompt: 'tell me' }), start(one, 'deleted', { prompt: 'tell me' })];
    for (const id of ['stopped', 'deleted']) await reached(one, id, 'text_delta');
    const interrupted = await call(other, 'POST', 'conversation/stopped/interrupt');
    assert.equal(interrupted.status, 200, JSON.stringify(interrupted.body));
    assert.deepEqual(endsOf(await logOf(other, 'stopped')), ['interrupted']);
    assert.equal((await call(other, 'DELETE', 'conversation/deleted')).status, 200);
    for (const node of [one, other]) assert.equal((await call(node, 'GET', 'conversation/deleted/info')).status, 404);
    await Promise.all(running);
    const asked = start(one, 'asked', { prompt: scripted([write('a.txt'), { text: 'Made.' }]) });
    await decide(other, await pendingIn(other, 'asked'), { decision: 'allow' });
    assert.equal((await asked)?.body['success'], true);
    await assertWhole(nodes);
  });

  test('a node that is stopped leaves what waits for a human to the others at once', async (context) => {
    const { nodes, one, other } = await twoNodes(context, longLease);
    const lost = start(one, 'asked', {
      permission_mode: 'askForEdits',
      prompt: scripted([write('a.txt'), write('b.txt'), { text: 'Made.' }]),
    });
    await decide(one, await pendingIn(one, 'asked'), { decision: 'allow' });
    const done = async () => (await logOf(one, 'asked')).some(({ type }) => type === 'tool_end');
    await until(done);
    const approval = await pendingIn(one, 'asked');
    one.program.signal('SIGTERM');
    assert.equal(await one.program.exited, 0);
    await lost;
    assert.equal((await nodes.rows('select id from nodes')).length, 1);
    await decide(other, approval, { decision: 'allow' });
    const log = await logAtRest(other, 'asked');
    assert.deepEqual([endsOf(log), log.filter(({ type }) => type === 'tool_start').length], [['end_turn'], 2]);
    const { body } = await say(other, 'asked', scripted([read('a.txt'), read('b.txt'), { text: 'Read.' }]));
    assert.equal(body['success'], true, JSON.stringify(body));
    assert.match(JSON.stringify(nodes.simulator.requests.at(-1)?.body), /in a.txt.*in b.txt/u);
    await assertWhole(nodes);
  });
});
