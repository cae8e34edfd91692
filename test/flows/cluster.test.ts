import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { ServerFrame } from '@sallyport/protocol';
import type { Step } from '@sallyport/simulator';
import { openSocket, type Client } from '../../packages/server/src/http/socket-support.ts';
import { call, decide, logAtRest, logOf, pendingIn } from '../support/approvals.ts';
import { askOnce, clusterOn, Reader } from '../support/cluster.ts';
import { leftOut } from '../support/needs.ts';
import type { Nginx } from '../support/nginx.ts';
import { usualLease } from '../support/nodes.ts';
import { leftOutWithoutPostgres, startPostgres, type PostgresServer } from '../support/postgres.ts';
import { processesWith } from '../support/processes.ts';
import { startRedis, type RedisServer } from '../support/redis.ts';
import { joined, scripted, until } from '../support/runs.ts';
import { query, userKey } from '../support/service.ts';

/** Seconds of a lease that nobody loses in these tests. */
const longLease = 60;

const told = (words: string, count: number): Step => ({
  text: Array.from({ length: count }, (_, at) => `${words} ${at}. `).join(''),
  rate: 60,
});
const write = (path: string): Step => ({
  tools: [{ name: 'Write', input: { file_path: `/workspace/${path}`, content: `in ${path}\n` } }],
});

const start = (service: { url: string }, id: string, body: Record<string, unknown>) =>
  query(service, { timeout: 300, ...body }, { path: `/api/claude/conversation/start?session_id=${id}` });
const say = (service: { url: string }, id: string, message: string) =>
  query(service, { session_id: id, message }, { path: `/api/claude/conversation/${id}/continue` });

/** True for a piece of text that came before its end was known: its cursor is inside the text. */
const isInside = ({ id, event }: Reader['events'][number]) => event.type === 'text_delta' && !id?.endsWith('.0');

const open = (service: { url: string }, label: string): Promise<Client> =>
  openSocket(Number(new URL(service.url).port), `/api/claude/ws/${label}`, {
    headers: { authorization: `Bearer ${userKey}` },
  });

/** An id whose conversation nginx has that node do. */
async function idOn(nginx: Nginx, { url }: { url: string }): Promise<string> {
  for (let at = 0; ; at += 1) {
    const path = `/api/claude/conversation/there-${at}/info`;
    await fetch(`${nginx.url}${path}`);
    let line: string | undefined;
    await until(
      () =>
        (line = nginx
          .log()
          .split('\n')
          .find((each) => each.includes(` ${path} `))) !== undefined,
    );
    if (line?.includes(` ${new URL(url).host} `)) return `there-${at}`;
  }
}

/** The text of the frames of a turn, which are taken up to its result. */
async function heard(client: Client): Promise<string> {
  let text = '';
  for (;;) {
    const frame: ServerFrame = await client.next();
    if (frame.type !== 'claude_response') continue;
    if (frame.event_type === 'text_delta') text += frame.content;
    if (frame.event_type === 'result') return text;
  }
}

/** What a reader has is the log, each event once and in order, and so is what follows each of its cursors. */
async function assertExact(
  t: TestContext,
  service: { url: string },
  id: string,
  reader: Reader,
  answers: readonly string[],
): Promise<void> {
  assert.equal(reader.text, answers.join(''), id);
  const ids = reader.events.filter(({ event }) => event.type !== 'status').map(({ id: at }) => at);
  assert.equal(new Set(ids).size, ids.length, `${id}: no cursor twice`);
  const whole = await logOf(service, id);
  const kept = (events: readonly { readonly type: string }[]) =>
    events.map(({ type }) => type).filter((type) => !/delta|status/u.test(type));
  assert.deepEqual(kept(reader.events.map(({ event }) => event)), kept(whole as { type: string }[]), id);
  for (const last of reader.resumed) {
    const at = reader.events.findLastIndex((event) => event.id === last);
    const rest = new Reader(t, service, id, last);
    await rest.turns(reader.events.slice(at + 1).filter(({ event }) => event.type === 'result').length);
    await rest.leave();
    assert.equal(joined(rest), joined({ events: reader.events.slice(at + 1) }), `${id} after ${last}`);
  }
}

const needs = leftOutWithoutPostgres('a cluster') || leftOut('a cluster', ['redis-server', 'nginx']);

describe('a cluster', { skip: needs }, () => {
  let postgres: PostgresServer;
  let redis: RedisServer;
  let made = 0;
  before(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  after(async () => {
    await Promise.all([postgres.close(), redis.close()]);
  });
  const aCluster = (t: TestContext, leaseSeconds: number) =>
    clusterOn(t, postgres, redis, `cluster_${(made += 1)}`, leaseSeconds);

  test('what runs on one node is followed on the other: as it is said with Redis, whole without', async (t) => {
    const { nginx, node } = await aCluster(t, longLease);
    const [one, other] = [node('a'), node('b')];
    assert.equal((await start(one, 'talk', { prompt: scripted([{ text: 'Hello. ' }]) })).status, 200);
    const [here, there, around] = [
      new Reader(t, one, 'talk'),
      new Reader(t, other, 'talk'),
      new Reader(t, nginx, 'talk'),
    ];
    const readers = [here, there, around];
    const socket = await open(other, 'mine');
    socket.send({ type: 'resume', session_id: 'talk', after: null });
    const answers = ['Hello. '];
    assert.equal(await heard(socket), answers[0]);
    const turn = async (words: string, of: { url: string } = one) => {
      const step = told(words, 15);
      answers.push(step.text ?? '');
      const before = there.events.length;
      assert.equal((await say(of, 'talk', scripted([step]))).body['success'], true);
      for (const reader of readers) await reader.turns(answers.length);
      assert.equal(await heard(socket), answers.at(-1));
      for (const reader of readers) assert.equal(reader.text, answers.join(''));
      return there.events.slice(before);
    };
    // On a machine that has stood still for a moment, Redis may have been given up for another one.
    while (!(await turn('with Redis')).some(isInside));
    await redis.kill();
    try {
      await turn('Redis is just gone');
      assert.ok(!(await turn('without Redis')).some(isInside), 'nothing but whole messages');
    } finally {
      await redis.start();
    }
    while (!(await turn('with Redis again')).some(isInside));
    // And the other way round: whoever ran it follows now.
    await turn('on the other node', other);
    for (const reader of readers) {
      await assertExact(t, nginx, 'talk', reader, answers);
      await reader.leave();
    }

    const own = await open(nginx, 'sock');
    const script = scripted([write('a.txt'), { text: 'Made over the socket.' }]);
    own.send({ type: 'start_conversation', session_id: 'sock', permission_mode: 'askForEdits', prompt: script });
    const approval = await pendingIn(nginx, 'sock');
    const watching = new Reader(t, nginx, 'sock');
    for (const each of [one, other])
      assert.equal((await pendingIn(each, 'sock'))['approval_id'], approval['approval_id']);
    await decide(nginx, approval, { decision: 'allow' });
    assert.equal(await heard(own), 'Made over the socket.');
    await watching.turns(1);
    assert.equal(watching.text, 'Made over the socket.');
    assert.equal((await call(one, 'DELETE', 'conversation/sock')).status, 200);
    await until(() => watching.over);
    await watching.leave();
    socket.socket.close();
    own.socket.close();
  });

  test('clients of a node that is killed read on through nginx and lose nothing', async (t) => {
    const { nodes, nginx, node } = await aCluster(t, usualLease);
    const [killed, other] = [node('a'), node('b')];
    let asked: { readonly url: string } = killed;
    const service = {
      get url() {
        return asked.url;
      },
    };
    nodes.simulator.play({ steps: [told('never to its end', 5000)] });
    // Where the others are read follows from the ports, which are random.
    const ids = [await idOn(nginx, killed), ...Array.from({ length: 5 }, (_, at) => `talk-${at}`)];
    const talks = ids.map((id) => {
      const request = { prompt: `the first message of ${id}`, timeout: 300 };
      return { id, ended: askOnce(service, `conversation/start?session_id=${id}`, request, `start-${id}`) };
    });
    await until(async () => (await nodes.rows('select id from conversations')).length === talks.length);
    const read = talks.map((talk) => ({ ...talk, reader: new Reader(t, nginx, talk.id) }));
    await until(() => read.every(({ reader }) => reader.text !== ''));
    nodes.simulator.play({ steps: [{ text: 'From the other node.' }] });
    asked = nginx;
    killed.program.signal('SIGKILL');
    for (const { id, reader, ended } of read) {
      await reader.turns(1);
      assert.equal((await ended).body['success'], true, id);
      assert.ok(reader.events.some(({ event }) => event.type === 'restart'));
      await assertExact(t, other, id, reader, ['From the other node.']);
    }
    assert.ok(read[0]!.reader.resumed.length > 0, 'the first was read through the node that was killed');
    await until(async () => (await processesWith(killed.runDir)).length === 0);
    for (const { id, reader } of read) {
      const again = { session_id: id, message: 'and again' };
      const { body } = await askOnce(nginx, `conversation/${id}/continue`, again, `again-${id}`);
      assert.equal(body['success'], true, JSON.stringify(body));
      const { messages } = nodes.simulator.requests.at(-1)!.body as { messages: unknown };
      for (const words of [`the first message of ${id}`, 'From the other node.', 'and again']) {
        assert.ok(JSON.stringify(messages).includes(words), `${id}: ${words}`);
      }
      await reader.turns(2);
      await reader.leave();
    }
    assert.deepEqual(await nodes.rows('select id from turns where ended_at is null'), []);
  });

  test('nodes are restarted one after the other under load, and no turn fails', async (t) => {
    const cluster = await aCluster(t, longLease);
    const { nodes, nginx, node } = cluster;
    const roll = { isOver: false };
    let turns = 0;
    const clients = Array.from({ length: 3 }, async (_, client) => {
      const answers = new Map<string, string[]>();
      for (let round = 0; !roll.isOver || round === 0; round += 1) {
        const id = `client-${client}-${round}`;
        const said = [told(`${id} first`, 5), told(`${id} second`, 5)];
        const [first, second] = said.map((step) => scripted([step]));
        const started = await askOnce(
          nginx,
          `conversation/start?session_id=${id}`,
          { prompt: first, timeout: 300 },
          `${id}-1`,
        );
        assert.deepEqual([started.status, started.body['success']], [200, true], JSON.stringify(started));
        const next = await askOnce(
          nginx,
          `conversation/${id}/continue`,
          { session_id: id, message: second },
          `${id}-2`,
        );
        assert.deepEqual([next.status, next.body['success']], [200, true], JSON.stringify(next));
        answers.set(
          id,
          said.map(({ text = '' }) => text),
        );
        turns += 2;
      }
      return answers;
    });
    const load = Promise.all(clients);
    const more = async () => {
      const target = turns + 3;
      await Promise.race([until(() => turns >= target), load]);
    };
    try {
      await more();
      for (const name of ['a', 'b'] as const) {
        const { program } = node(name);
        program.signal('SIGTERM');
        assert.equal(await program.exited, 0, program.output());
        await more();
        await cluster.startAgain(name);
        await until(async () => (await fetch(`${node(name).url}/readyz`)).status === 200);
        await more();
      }
    } finally {
      roll.isOver = true;
    }
    for (const answers of await load) {
      for (const [id, texts] of answers) {
        const log = await logAtRest(nginx, id);
        assert.equal(joinedOf(log), texts.join(''), id);
      }
    }
    const ends = await nodes.rows<{ state: string; count: string }>('select state, count(*) from turns group by state');
    assert.deepEqual(
      ends.map(({ state }) => state),
      ['completed'],
      JSON.stringify(ends),
    );
    assert.equal((await nodes.rows('select id from nodes')).length, 2);
  });
});

const joinedOf = (log: readonly Record<string, any>[]): string =>
  joined({ events: log.map((event) => ({ id: null, event: event as Reader['events'][number]['event'] })) });
