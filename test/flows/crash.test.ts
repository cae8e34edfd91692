import assert from 'node:assert/strict';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { call, decide, logAtRest, pendingIn } from '../support/approvals.ts';
import { processesWith } from '../support/processes.ts';
import { restartable, type Restartable } from '../support/restart.ts';
import { rows, scripted, until } from '../support/runs.ts';

type Event = Record<string, any>;

/** Says something in a conversation under an `Idempotency-Key` until the service has taken it, as a client would. */
async function said(service: Restartable, conversation: string, key: string, message: string): Promise<Response> {
  return await fetch(`${service.url}/api/claude/conversation/${conversation}/continue`, {
    method: 'POST',
    headers: {
      authorization: 'Bearer test-user-key-0123456789abcdef00',
      'content-type': 'application/json',
      'idempotency-key': key,
    },
    body: JSON.stringify({ session_id: conversation, message }),
  });
}

/** What must hold of a conversation's stored log whatever was killed: no gap, and one end for each turn. */
function checkLog(service: Restartable, conversation: string): void {
  const events = rows(service, 'select seq, turn, type from events where conversation = ? order by seq', conversation);
  assert.deepEqual(
    events.map(({ seq }) => seq),
    events.map((_, index) => index + 1),
  );
  const turns = rows(service, 'select id, state, ended_at from turns where conversation = ?', conversation);
  for (const { id, state, ended_at: endedAt } of turns) {
    assert.ok(endedAt !== null && ['completed', 'failed', 'interrupted'].includes(state), `${id} is ${state}`);
    const own = events.filter(({ turn }) => turn === id).map(({ type }) => type);
    assert.deepEqual(own.filter((type) => type === 'result').length, 1);
    assert.equal(own.at(-1), 'result');
    assert.equal(own.filter((type) => type === 'user_message').length, 1);
  }
}

const stages: Readonly<Record<string, (events: readonly Event[], service: Restartable) => boolean>> = {
  'when it is accepted': (events) => events.length > 0,
  'when the model is asked': (_, { simulator }) => simulator.requests.at(-1)?.outcome === 'pending',
  'at the first text': (events) => events.some(({ type }) => type === 'text_delta'),
  'when the tool has started': (events) => events.some(({ type }) => type === 'tool_start'),
  'when the tool has ended': (events) => events.some(({ type }) => type === 'tool_end'),
  'in the last text': (events) =>
    events.at(-1)?.['type'] === 'text_delta' && events.some(({ type }) => type === 'tool_end'),
  'when the result is there': (events) => events.at(-1)?.['type'] === 'result',
};

/** Reads the events of the turn under way as they come. */
async function watch(service: Restartable, conversation: string, after: string): Promise<{ events: Event[] }> {
  const headers = { authorization: 'Bearer test-user-key-0123456789abcdef00' };
  const url = `${service.url}/api/claude/conversation/${conversation}/events?after=${after}`;
  const response = await fetch(url, { headers });
  const watched: { events: Event[] } = { events: [] };
  void (async () => {
    let text = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const frames = text.split('\n\n');
      text = frames.pop() ?? '';
      for (const frame of frames) {
        const [, data] = /^data: (\{.*)$/mu.exec(frame) ?? [];
        if (data !== undefined) watched.events.push(JSON.parse(data) as Event);
      }
    }
  })().catch(() => undefined); // The service is killed under it.
  return watched;
}

test('whenever the service is killed, the turn ends once, its tool has run at most once, and the conversation goes on', async (context) => {
  const service = await restartable(context);
  const project = join(service.root, 'project');
  await mkdir(project);
  await chmod(project, 0o777);
  const first = { prompt: scripted([{ text: 'Ready.' }]), project_path: project, permission_mode: 'acceptEdits' };
  const allowed = { ...first, allowed_tools: ['Bash', 'Read'] };
  assert.equal((await call(service, 'POST', 'conversation/start?session_id=c', allowed)).status, 200);
  let number = 0;
  for (const [stage, reached] of Object.entries(stages)) {
    number += 1;
    const file = `ran-${number}`;
    const message = scripted([
      {
        text: 'I will run it, slowly. ',
        rate: 60,
        tools: [{ name: 'Bash', input: { command: `echo ${number} >> ${file}; sleep 0.3` } }],
      },
      { text: 'And this is the end of the story.', rate: 60, delay_ms: 200 },
    ]);
    const log = rows(service, 'select max(seq) as last from events');
    const watched = await watch(service, 'c', `${log[0]?.['last']}.0`);
    const sent = said(service, 'c', `key-${number}`, message).then(
      (response) => response.status,
      () => null,
    );
    await until(() => reached(watched.events, service));
    const before = (await processesWith(service.runDir)).map(({ pid }) => pid);
    await service.killAndRestart();
    await sent;
    await until(async () => !(await processesWith(service.runDir)).some(({ pid }) => before.includes(pid)));
    const events = await logAtRest(service, 'c');
    checkLog(service, 'c');
    const ran = await readFile(join(project, file), 'utf8').catch(() => '');
    const ended = events.findLast(({ type }) => type === 'result');
    assert.ok(ran === '' || ran === `${number}\n`, `${stage}: the tool ran ${JSON.stringify(ran)}`);
    if (ended?.['stop_reason'] === 'end_turn') assert.equal(ran, `${number}\n`, stage);
    context.diagnostic(`killed ${stage}: ${ended?.['stop_reason']}, tool ran ${ran === '' ? 'not' : 'once'}`);
    // The client that asks again under its key gets the turn's end, not another turn.
    const turns = rows(service, 'select count(*) as n from turns')[0]?.['n'];
    const again = await said(service, 'c', `key-${number}`, message);
    assert.equal(again.headers.get('idempotency-replayed'), 'true', stage);
    assert.equal(rows(service, 'select count(*) as n from turns')[0]?.['n'], turns);
    const next = { session_id: 'c', message: scripted([{ text: `After ${number}.` }]) };
    const { body } = await call(service, 'POST', 'conversation/c/continue', next);
    assert.equal(body['success'], true, JSON.stringify(body));
  }
});

test('killed again and again while a human is awaited, the allowed edit is made exactly once', async (context) => {
  const service = await restartable(context);
  const tools = [{ name: 'Write', input: { file_path: '/workspace/a.txt', content: 'x' } }];
  const prompt = scripted([{ text: 'Look: ', tools }, { text: 'made.' }]);
  void call(service, 'POST', 'conversation/start?session_id=w', { prompt }).catch(() => undefined);
  const approval = await pendingIn(service, 'w');
  for (let time = 0; time < 3; time += 1) await service.killAndRestart();
  await decide(service, approval, { decision: 'allow' });
  // The decision is stored: whoever comes after the kill acts on it.
  await service.killAndRestart();
  const events = await logAtRest(service, 'w');
  checkLog(service, 'w');
  assert.equal(events.filter(({ type }) => type === 'tool_start').length, 1);
  const reason = events.at(-1)?.['stop_reason'];
  assert.ok(reason === 'end_turn' || reason === 'interrupted', reason);
  const listed = await call(service, 'GET', 'conversation/w/files');
  if (reason === 'end_turn')
    assert.deepEqual(
      listed.body['items'].map((item: Event) => item['path']),
      ['a.txt'],
    );
});
