import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RecordedRequest, Simulator } from '@sallyport/simulator';
import { restartable } from '../support/restart.ts';
import { logAtRest, logOf } from '../support/approvals.ts';
import { eventsIn, joined, scripted, until } from '../support/runs.ts';
import { query, userKey } from '../support/service.ts';

const base = '/api/claude/conversation';
const turns = [
  scripted([
    { tools: [{ name: 'Write', input: { file_path: '/workspace/a.txt', content: 'alpha\n' } }] },
    { text: 'Written.' },
  ]),
  scripted([{ text: 'A second answer with 😀.' }]),
  scripted([{ tools: [{ name: 'Read', input: { file_path: '/workspace/a.txt' } }] }, { text: 'Read.' }]),
];

/** Holds a conversation of three turns and gives what the model was sent in its last call. */
async function held(service: { url: string; simulator: Simulator }, between: () => Promise<void>): Promise<unknown> {
  const first = await query(
    service,
    { prompt: turns[0], permission_mode: 'acceptEdits' },
    { path: `${base}/start?session_id=same` },
  );
  assert.equal(first.body['success'], true, JSON.stringify(first.body));
  for (const message of turns.slice(1)) {
    await between();
    const { body } = await query(service, { session_id: 'same', message }, { path: `${base}/same/continue` });
    assert.equal(body['success'], true, JSON.stringify(body));
  }
  return comparable(service.simulator.requests.at(-1));
}

/** The messages of a model call without what differs from run to run: ids that the simulator draws, and cache marks. */
function comparable(request: RecordedRequest | undefined): unknown {
  const text = JSON.stringify((request?.body as { messages?: unknown } | null)?.messages);
  const names = new Map<string, string>();
  return JSON.parse(
    text
      .replaceAll(
        /toolu_[0-9a-f]+/gu,
        (id) => names.get(id) ?? (names.set(id, `tool ${names.size}`), names.get(id) ?? ''),
      )
      .replaceAll(/,"cache_control":\{[^}]*\}/gu, ''),
  );
}

test('what the model is sent after kills and restarts is what it is sent without them', async (context) => {
  const steady = await held(await restartable(context), async () => undefined);
  const killed = await restartable(context);
  assert.deepEqual(await held(killed, () => killed.killAndRestart()), steady);
});

test('a turn that was killed in its text goes on after the restart, and no word is told twice', async (context) => {
  const service = await restartable(context);
  const start = { prompt: turns[0], permission_mode: 'acceptEdits' };
  assert.equal((await query(service, start, { path: `${base}/start?session_id=cut` })).status, 200);
  const slow = scripted([{ text: 'told once. '.repeat(20), rate: 30 }]);
  const lost = query(service, { session_id: 'cut', message: slow }, { path: `${base}/cut/continue` });
  const answered = assert.rejects(lost);
  const headers = { authorization: `Bearer ${userKey}` };
  const watched = await fetch(`${service.url}${base}/cut/events`, { headers });
  let seen = '';
  for await (const chunk of watched.body!.pipeThrough(new TextDecoderStream())) {
    seen += chunk;
    if (/"content":"told"/u.test(seen)) break;
  }
  await service.killAndRestart();
  await answered;
  const last = [...seen.matchAll(/^id: (.*)$/gmu)].at(-1)?.[1] ?? '';
  assert.match(last, /\.[1-9]/u, 'the cursor is inside the text');
  assert.equal((await logAtRest(service, 'cut')).at(-1)?.['stop_reason'], 'end_turn');
  const rest = await (await fetch(`${service.url}${base}/cut/events?follow=false&after=${last}`, { headers })).text();
  assert.match(rest, /"type":"restart"/u);
  assert.equal(joined({ events: [...eventsIn(seen), ...eventsIn(rest)] }).split('told once. ').length, 21);
  const { body } = await query(service, { session_id: 'cut', message: turns[2] }, { path: `${base}/cut/continue` });
  assert.equal(body['success'], true, JSON.stringify(body));
  assert.equal(body['new_messages'].at(-1).content, 'Read.');
  assert.match(JSON.stringify(service.simulator.requests.at(-1)?.body), /alpha/u, 'the file survived the kill');
});

test('a turn that was killed while a tool ran ends once as interrupted, and the conversation goes on', async (context) => {
  const service = await restartable(context);
  const run = scripted([{ tools: [{ name: 'Bash', input: { command: 'sleep 5' } }] }, { text: 'never' }]);
  const start = { prompt: run, permission_mode: 'acceptEdits', allowed_tools: ['Bash'] };
  const lost = assert.rejects(query(service, start, { path: `${base}/start?session_id=cut` }));
  await until(async () => {
    const log = await logOf(service, 'cut').catch(() => []);
    return log.some(({ type }) => type === 'tool_start');
  });
  await service.killAndRestart();
  await lost;
  const ends = (await logAtRest(service, 'cut')).filter(({ type }) => type === 'result');
  assert.deepEqual(
    ends.map((end) => [end['stop_reason'], end['changes_truncated']]),
    [['interrupted', true]],
  );
  assert.match(ends[0]?.['error'], /Bash was running/u);
  const message = scripted([{ text: 'On we go.' }]);
  const { body } = await query(service, { session_id: 'cut', message }, { path: `${base}/cut/continue` });
  assert.equal(body['new_messages']?.at(-1).content, 'On we go.', JSON.stringify(body));
});

for (const isolation of ['auto', 'none']) {
  test(`what a turn had written when it was killed is there when it goes on (isolation ${isolation})`, async (context) => {
    const service = await restartable(context, { env: { SALLYPORT_ISOLATION: isolation } });
    const steps = scripted([
      { tools: [{ name: 'Write', input: { file_path: 'made.txt', content: 'by the killed turn' } }] },
      { text: 'slowly told. '.repeat(20), rate: 30 },
    ]);
    const lost = assert.rejects(
      query(service, { prompt: steps, permission_mode: 'acceptEdits' }, { path: `${base}/start?session_id=kept` }),
    );
    await until(async () => {
      const log = await logOf(service, 'kept').catch(() => []);
      return log.at(-1)?.['type'] === 'text_delta';
    });
    await service.killAndRestart();
    await lost;
    assert.equal((await logAtRest(service, 'kept')).at(-1)?.['stop_reason'], 'end_turn');
    const headers = { authorization: `Bearer ${userKey}` };
    const file = await fetch(`${service.url}${base}/kept/files/made.txt`, { headers });
    assert.equal(await file.text(), 'by the killed turn');
    const message = scripted([{ tools: [{ name: 'Read', input: { file_path: 'made.txt' } }] }, { text: 'Seen.' }]);
    await query(service, { session_id: 'kept', message }, { path: `${base}/kept/continue` });
    assert.match(JSON.stringify(service.simulator.requests.at(-1)?.body), /by the killed turn/u);
  });
}
