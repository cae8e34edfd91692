import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { startSimulator, type RecordedRequest, type Simulator } from '@sallyport/simulator';
import { scripted } from '../support/runs.ts';
import { query, startProgram, upstreamKey, userKey, type Program } from '../support/service.ts';

/** A service in a process of its own that can be killed and started again on the same data. */
async function restartable(context: TestContext) {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'sallyport-restart-')));
  const simulator = await startSimulator();
  const env = {
    SALLYPORT_PORT: '0',
    ANTHROPIC_API_KEY: upstreamKey,
    ANTHROPIC_BASE_URL: simulator.url,
    SALLYPORT_MODELS: 'sallyport-simulator',
    CLAUDE_API_KEY_1: userKey,
  };
  await mkdir(join(directory, 'work'));
  let program: Program | null = await startProgram(env, join(directory, 'work'));
  context.after(async () => {
    program?.signal('SIGTERM');
    await program?.exited;
    await simulator.close();
    await rm(directory, { recursive: true, force: true });
  });
  return {
    simulator,
    get url() {
      return program?.url ?? '';
    },
    async killAndRestart() {
      process.kill(program?.pid ?? 0, 'SIGKILL');
      await program?.exited;
      program = null;
      program = await startProgram(env, join(directory, 'work'));
    },
  };
}

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

test('a turn that was killed ends once as interrupted, and the conversation goes on with its past', async (context) => {
  const service = await restartable(context);
  const start = { prompt: turns[0], permission_mode: 'acceptEdits' };
  assert.equal((await query(service, start, { path: `${base}/start?session_id=cut` })).status, 200);
  const slow = scripted([{ text: 'never finished '.repeat(200), rate: 10 }]);
  const lost = query(service, { session_id: 'cut', message: slow }, { path: `${base}/cut/continue` });
  const answered = assert.rejects(lost);
  while (service.simulator.requests.at(-1)?.outcome !== 'pending')
    await new Promise((resolve) => setTimeout(resolve, 20));
  await service.killAndRestart();
  await answered;
  const headers = { authorization: `Bearer ${userKey}` };
  const log = await (await fetch(`${service.url}${base}/cut/events?follow=false`, { headers })).text();
  const ends = [...log.matchAll(/"is_complete":true.*?"stop_reason":"(\w+)"/gu)].map((match) => match[1]);
  assert.deepEqual(ends, ['end_turn', 'interrupted']);
  const { body } = await query(service, { session_id: 'cut', message: turns[2] }, { path: `${base}/cut/continue` });
  assert.equal(body['success'], true, JSON.stringify(body));
  assert.equal(body['new_messages'].at(-1).content, 'Read.');
  assert.match(JSON.stringify(service.simulator.requests.at(-1)?.body), /alpha/u, 'the file survived the kill');
});
