// Two nodes behind nginx, of which one is killed in the middle of an answer.
//
//   node tools/run.mjs exec examples/cluster/run.ts
//
// Postgres, Redis, nginx and two Sallyport servers run on this machine. A conversation is started through nginx, with a
// file that Claude edits. While it gives a long answer the node that runs it is killed; the other one gives the answer to
// its end, on the same stream as far as the client can tell. The program fails when anything is not as expected.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ClaudeMessage, StreamEvent } from '@sallyport/protocol';
import { startSimulator } from '@sallyport/simulator';
import { Answer } from '../lib/answer.ts';
import { call, Conversation, getJson } from '../lib/client.ts';
import { Project } from '../lib/project.ts';
import { answerTo, clustered as script, promptOf, type Line } from '../lib/script.ts';
import { Service } from '../lib/service.ts';
import { line, piece } from '../lib/show.ts';
import { startNginx, startPostgres, startRedis, type Part } from './parts.ts';

const id = 'travel';
/** Seconds after which a node that says nothing is taken for gone. */
const lease = 5;
const { directory } = await Project.create();
const parts: Part[] = [];
const has = <P extends Part>(name: string, part: P): P => {
  parts.unshift(part);
  line(`${name} runs.`);
  return part;
};

/** A node: what it has for itself is a directory, the rest it shares with the others. */
async function startNode(name: string, shared: Readonly<Record<string, string>>): Promise<Service> {
  const own = join(directory, name);
  mkdirSync(own, { mode: 0o755 });
  const node = new Service(own, shared);
  await node.start();
  parts.unshift({ url: node.url, stop: () => node.stop() });
  line(`Node ${name} is process ${node.pid} at ${node.url}.`);
  return node;
}

/** Follows a turn to its end, shows what happens, and gives the answer. */
async function follow(
  said: Line,
  events: AsyncIterable<StreamEvent>,
  onText: (answer: Answer) => Promise<void> = async () => {},
) {
  line(`\nYou: ${said.words}`);
  const answer = new Answer();
  for await (const event of events) {
    answer.take(event.type, event.content);
    if (event.type === 'text_delta') {
      piece(event.content);
      await onText(answer);
    } else if (event.type === 'tool_start') line(`  [${event.name}]`);
    else if (event.type === 'restart') line('  (What came of this message is withdrawn. It is said again.)');
    else if (event.type === 'result') assert.equal(event.stop_reason, 'end_turn', event.error ?? '');
  }
  assert.equal(answer.text, answerTo(said), 'every word came once');
  return answer.text;
}

try {
  // In this process, so that we can look at what the model is told.
  const simulator = await startSimulator();
  parts.push({ url: simulator.url, stop: () => simulator.close() });
  const postgres = has('Postgres', await startPostgres(join(directory, 'postgres')));
  const redis = has('Redis', await startRedis(join(directory, 'redis')));
  const shared = {
    DATABASE_URL: postgres.url,
    REDIS_URL: redis.url,
    SALLYPORT_WORKSPACES_DIR: join(directory, 'workspaces'),
    SALLYPORT_LEASE_SECONDS: String(lease),
    SALLYPORT_TRUSTED_PROXIES: '127.0.0.1',
    CLAUDE_API_KEY_1: randomUUID(),
    ANTHROPIC_API_KEY: 'any-as-the-simulator-takes-all',
    ANTHROPIC_BASE_URL: simulator.url,
    SALLYPORT_MODELS: 'sallyport-simulator',
  };
  const nodes = [await startNode('a', shared), await startNode('b', shared)];
  const nginx = has(
    'nginx',
    await startNginx(
      join(directory, 'nginx'),
      nodes.map(({ url }) => new URL(url).host),
    ),
  );
  const service = { url: nginx.url, key: shared.CLAUDE_API_KEY_1 };
  line(`Clients know one address: ${service.url}.`);

  const conversation = new Conversation(service, id);
  const files = [{ path: 'notes.md', content: 'Paris, in March.\n' }];
  const start = { prompt: promptOf(script.edit), files, permission_mode: 'acceptEdits', max_turns: 10 };
  const answers = [await follow(script.edit, conversation.start(start))];

  const address = nginx.nodeOf('/api/claude/conversation/start');
  const holder = nodes.find(({ url }) => url.endsWith(address));
  assert.ok(holder, `the node at ${address}`);
  line(`nginx had ${address} do it. The next message goes there too, as it is the same conversation.`);
  let killed = false;
  const kill = async ({ text }: Answer) => {
    if (killed || text.length < 150) return;
    killed = true;
    await holder.kill();
    line(`\n  kill -9 ${holder.pid}: that node is gone, ${text.length} characters into its answer.`);
    line(`  We ask nginx for what follows cursor ${conversation.cursor}. After ${lease} s the other node takes over.`);
  };
  answers.push(await follow(script.killed, conversation.say(promptOf(script.killed)), kill));
  assert.ok(killed);

  answers.push(await follow(script.last, conversation.say(promptOf(script.last))));
  const told = JSON.stringify(simulator.requests.at(-1)?.body);
  const before = [script.edit, script.killed].flatMap(({ words, steps }) => [
    words,
    ...steps.map((step) => answerTo({ words, steps: [step] })),
  ]);
  for (const text of [...before, script.last.words, 'Rome, in March.'])
    assert.ok(told.includes(text), `the model knows: ${text}`);
  line('The model was told all that was said, and the file as it was edited on the node that is gone.');

  const { items } = await getJson<{ items: ClaudeMessage[] }>(service, `conversation/${id}/messages`);
  const said = items.filter(({ role }) => role === 'assistant').map(({ content }) => content);
  assert.equal(said.join(''), answers.join(''), 'the history holds every word once');
  const file = await call(service, 'GET', `conversation/${id}/files/notes.md`);
  assert.equal(await file.text(), 'Rome, in March.\n');
  line('\nAll is as expected.');
} finally {
  for (const part of parts) await part.stop();
}
