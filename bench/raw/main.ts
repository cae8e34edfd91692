import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { json } from 'node:stream/consumers';
import { query, type Options, type Query, type SDKUserMessage } from '@anthropic-ai/claude-agent-sdk';
import { claudeExecutable } from '../../packages/server/src/claude/executable.ts';
import { createJails, type Jail } from '../../packages/server/src/claude/jail.ts';
import { sdkOptions } from '../../packages/server/src/claude/options.ts';
import { systemClock } from '../../packages/server/src/engine/clock.ts';
import type { BrokerPass } from '../../packages/server/src/engine/ports.ts';
import { openGrant } from '../broker/grant.ts';
import { log, openBroker } from '../broker/open.ts';
import type { Answer } from '../peers.ts';
import { serve } from './serve.ts';

/**
 * The SDK alone: a live process of Claude Code for each conversation, in the very jail and behind the very broker of the
 * service, with nothing else around it. It times its turns itself, so that no hop over HTTP counts.
 *
 * BENCH_BASE is a directory of its own, ANTHROPIC_BASE_URL the upstream. With BENCH_BROKER and BENCH_TOKEN the broker is
 * that of another process.
 */
const base = process.env['BENCH_BASE'] ?? '';
const tools = ['Read', 'Grep', 'Glob'] as const;

const { broker, runDir } = await openBroker('raw-run');
const jails = await createJails({
  setting: 'auto',
  runDir,
  hidden: [],
  keptDir: join(base, 'raw-kept'),
  brokerSocket: process.env['BENCH_BROKER'] ?? broker.socketPath,
  claudeBinary: claudeExecutable(),
  clock: systemClock,
  log,
});

/** What the service asks of Claude Code, less what it has it tell: no hooks, no permissions, no transcript. */
function optionsOf(jail: Jail, { token }: BrokerPass): Options {
  const profile = {
    tenant: 'bench',
    projectPath: null,
    access: 'ro',
    permissionMode: 'readOnly',
    tools,
    model: openGrant.model,
    effort: null,
    systemPrompt: null,
    outputSchema: null,
  } as const;
  const unused = () => Promise.reject(new Error('not used'));
  const options = sdkOptions({
    profile,
    session: randomUUID(),
    resume: false,
    recovery: false,
    jail,
    token: process.env['BENCH_TOKEN'] ?? token,
    sessionStore: { append: unused, load: unused },
    hooks: {},
    canUseTool: unused,
    spawn(how) {
      const child = jail.spawn(how);
      child.stderr.pipe(process.stderr, { end: false });
      return child;
    },
  });
  for (const name of ['sessionStore', 'sessionStoreFlush', 'hooks', 'canUseTool'] as const) delete options[name];
  return options;
}

interface Live {
  readonly jail: Jail;
  readonly pass: BrokerPass;
  readonly input: PassThrough;
  readonly messages: Query;
}

const live = new Map<string, Live>();

async function start(): Promise<Live> {
  const jail = await jails.open({ projectPath: null, access: 'ro', bash: false });
  const pass = broker.issue();
  const input = new PassThrough({ objectMode: true });
  const messages = query({ prompt: input as AsyncIterable<SDKUserMessage>, options: optionsOf(jail, pass) });
  await messages.initializationResult();
  return { jail, pass, input, messages };
}

async function turn({ pass, input, messages }: Live, prompt: string): Promise<Answer> {
  const since = performance.now();
  pass.bind(openGrant);
  const content = [{ type: 'text', text: prompt }];
  input.write({ type: 'user', message: { role: 'user', content }, parent_tool_use_id: null, client_composed: true });
  let [text, firstTextMs]: [string, number | null] = ['', null];
  for (;;) {
    const { value: message } = await messages.next();
    if (message === undefined) return { text, firstTextMs, session: '', problem: 'the process has ended' };
    if (message.type === 'stream_event') {
      const { event } = message;
      if (event.type !== 'content_block_delta' || event.delta.type !== 'text_delta') continue;
      firstTextMs ??= performance.now() - since;
      text += event.delta.text;
    } else if (message.type === 'result') {
      const { session_id: session, is_error, subtype } = message;
      return { text, firstTextMs, session, problem: is_error ? `the run ended with ${subtype}` : null };
    }
  }
}

async function answer(request: IncomingMessage): Promise<Answer> {
  const { prompt, session_id } = (await json(request)) as { prompt: string; session_id: string | null };
  const one = live.get(session_id ?? '') ?? (await start());
  const answered = await turn(one, prompt);
  live.set(answered.session, one);
  return answered;
}

async function end(request: IncomingMessage): Promise<object> {
  const { session_id } = (await json(request)) as { session_id: string };
  const one = live.get(session_id);
  live.delete(session_id);
  one?.input.end();
  one?.pass.revoke();
  await one?.jail.remove();
  return {};
}

serve({ jails, broker }, (path, request) => (path === '/end' ? end : answer)(request));
