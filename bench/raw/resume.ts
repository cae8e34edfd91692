import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { query, type SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import { createBroker } from '../../packages/server/src/broker/broker.ts';
import { loadPrices } from '../../packages/server/src/broker/prices.ts';
import { claudeExecutable } from '../../packages/server/src/claude/executable.ts';
import { createJails, type Jail } from '../../packages/server/src/claude/jail.ts';
import { prepareRunDirectory } from '../../packages/server/src/claude/slots.ts';
import { systemClock } from '../../packages/server/src/engine/clock.ts';
import type { BrokerPass } from '../../packages/server/src/engine/ports.ts';
import type { Answer } from '../peers.ts';

/**
 * `query({resume})` alone: each query goes on from a transcript that lies where Claude Code looks for it, in a process of
 * its own, in the very jail and behind the very broker of the service. Jail and transcript are made before, by `/prepare`,
 * and it times itself: no copying, no database and no hop over HTTP counts.
 *
 * BENCH_BASE is a directory of its own, ANTHROPIC_BASE_URL the upstream.
 */
const base = process.env['BENCH_BASE'] ?? '';
const model = 'sallyport-simulator';
const log = { info() {}, warn: complain, error: complain };

function complain(data: object, message: string): void {
  process.stderr.write(`${message} ${JSON.stringify(data)}\n`);
}

const run = await prepareRunDirectory(join(base, 'resume-run'));
const broker = await createBroker({
  socketPath: run.brokerSocket,
  upstreams: [
    { name: 'bench', baseUrl: process.env['ANTHROPIC_BASE_URL'] ?? '', keys: [], maxConcurrent: 1000, models: null },
  ],
  prices: loadPrices(null),
  clock: systemClock,
  log,
  record: async () => {},
});
const jails = await createJails({
  setting: 'auto',
  runDir: run.path,
  hidden: [],
  keptDir: join(base, 'resume-kept'),
  brokerSocket: run.brokerSocket,
  claudeBinary: claudeExecutable(),
  clock: systemClock,
  log,
});

interface Prepared {
  readonly jail: Jail;
  readonly pass: BrokerPass;
  readonly session: string;
}

let prepared: Prepared | null = null;

async function prepare(request: IncomingMessage): Promise<object> {
  const { session, transcript } = (await json(request)) as { session: string; transcript: string };
  const jail = await jails.open({ projectPath: null, access: 'ro', bash: false });
  const project = jail.root.replaceAll(/[^a-zA-Z0-9]/gu, '-');
  const content = await readFile(transcript, 'utf8');
  await jail.writeConfig({ path: `projects/${project}/${session}.jsonl`, content });
  const pass = broker.issue();
  pass.bind({
    ref: { tenant: 'bench', conversation: 'bench', turn: 'bench', epoch: 1 },
    key: 'bench',
    model,
    budgetUsd: null,
    mayCall: async () => 'yes',
    maxCalls: 1000,
    hasTools: true,
    singleToolCalls: false,
    before: { calls: 0, spentUsd: 0 },
    cleared: false,
    ready: Promise.resolve(),
    onRetry: () => {},
  });
  prepared = { jail, pass, session };
  return {};
}

function start({ jail, pass, session }: Prepared, prompt: string): AsyncIterable<SDKMessage> {
  return query({
    prompt,
    options: {
      cwd: jail.root,
      env: {
        ...jail.env,
        ANTHROPIC_API_KEY: pass.token,
        CLAUDE_CODE_MAX_RETRIES: '1',
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
        CLAUDE_CODE_DISABLE_AUTO_MEMORY: '1',
        DISABLE_TELEMETRY: '1',
        DISABLE_ERROR_REPORTING: '1',
        DISABLE_AUTOUPDATER: '1',
      },
      pathToClaudeCodeExecutable: jail.claudeExecutable,
      spawnClaudeCodeProcess(how) {
        const child = jail.spawn(how);
        child.stderr.pipe(process.stderr, { end: false });
        return child;
      },
      model,
      tools: ['Read', 'Grep', 'Glob'],
      permissionMode: 'dontAsk',
      systemPrompt: { type: 'preset', preset: 'claude_code' },
      settingSources: [],
      strictMcpConfig: true,
      includePartialMessages: true,
      maxTurns: 3,
      resume: session,
    },
  });
}

async function answer(request: IncomingMessage): Promise<Answer> {
  const { prompt } = (await json(request)) as { prompt: string };
  const mine = prepared;
  if (mine === null) throw new Error('nothing is prepared');
  prepared = null;
  const since = performance.now();
  let [text, firstTextMs]: [string, number | null] = ['', null];
  let end = { session: '', problem: 'the answer has no end' as string | null };
  for await (const message of start(mine, prompt)) {
    if (message.type === 'stream_event') {
      const { event } = message;
      if (event.type !== 'content_block_delta' || event.delta.type !== 'text_delta') continue;
      firstTextMs ??= performance.now() - since;
      text += event.delta.text;
    } else if (message.type === 'result') {
      const { session_id: session, is_error, subtype } = message;
      end = { session, problem: is_error ? `the run ended with ${subtype}` : null };
    }
  }
  mine.pass.revoke();
  await mine.jail.remove();
  return { text, firstTextMs, ...end };
}

const server = createServer((request, response) => {
  (request.url === '/prepare' ? prepare : answer)(request).then(
    (body) => response.end(JSON.stringify(body)),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
      response.destroy();
    },
  );
});

process.once('SIGTERM', () => void Promise.all([jails.close(), broker.close()]).finally(() => process.exit(0)));
server.listen(0, '127.0.0.1', () => {
  const jail = jails.isolation.jailed ? '' : 'WITHOUT A JAIL\n';
  process.stdout.write(`${jail}Address: http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
