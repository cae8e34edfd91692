import type { IncomingMessage } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { query, type SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import { claudeExecutable } from '../../packages/server/src/claude/executable.ts';
import { createJails, type Jail } from '../../packages/server/src/claude/jail.ts';
import { systemClock } from '../../packages/server/src/engine/clock.ts';
import type { BrokerPass } from '../../packages/server/src/engine/ports.ts';
import { openGrant } from '../broker/grant.ts';
import { log, openBroker } from '../broker/open.ts';
import type { Answer } from '../peers.ts';
import { serve } from './serve.ts';

/**
 * `query({resume})` alone: each query goes on from a transcript that lies where Claude Code looks for it, in a process of
 * its own, in the very jail and behind the very broker of the service. Jail and transcript are made before, by `/prepare`,
 * and it times itself: no copying, no database and no hop over HTTP counts.
 *
 * BENCH_BASE is a directory of its own, ANTHROPIC_BASE_URL the upstream.
 */
const base = process.env['BENCH_BASE'] ?? '';

const { broker, runDir } = await openBroker('resume-run');
const jails = await createJails({
  setting: 'auto',
  runDir,
  hidden: [],
  keptDir: join(base, 'resume-kept'),
  brokerSocket: broker.socketPath,
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
  pass.bind(openGrant);
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
      model: openGrant.model,
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

serve({ jails, broker }, (path, request) => (path === '/prepare' ? prepare : answer)(request));
