import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { json } from 'node:stream/consumers';
import { query, type Query, type SDKUserMessage } from '@anthropic-ai/claude-agent-sdk';

/** A conversation: a process of Claude Code that lives on. */
interface Live {
  readonly input: PassThrough;
  readonly messages: Query;
}

const live = new Map<string, Live>();

function start(): Live {
  const input = new PassThrough({ objectMode: true });
  const messages = query({
    prompt: input as AsyncIterable<SDKUserMessage>,
    options: {
      model: 'sallyport-simulator',
      tools: ['Read', 'Grep', 'Glob'],
      permissionMode: 'dontAsk',
      systemPrompt: { type: 'preset', preset: 'claude_code' },
      settingSources: [],
      strictMcpConfig: true,
      includePartialMessages: true,
    },
  });
  return { input, messages };
}

/** The least that passes a live answer on: each delta as the SDK gives it, and the result, as server-sent events. */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { prompt, session_id } = (await json(request)) as { prompt: string; session_id?: string };
  const one = live.get(session_id ?? '') ?? start();
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  one.input.write({ type: 'user', message: { role: 'user', content: prompt }, parent_tool_use_id: null });
  for (;;) {
    const { value: message } = await one.messages.next();
    if (message === undefined) throw new Error('the process has ended');
    if (message.type !== 'result' && !(message.type === 'stream_event' && message.event.type === 'content_block_delta'))
      continue;
    response.write(`data: ${JSON.stringify(message)}\n\n`);
    if (message.type !== 'result') continue;
    live.set(message.session_id, one);
    response.end('data: [DONE]\n\n');
    return;
  }
}

async function end(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { session_id } = (await json(request)) as { session_id: string };
  const one = live.get(session_id);
  live.delete(session_id);
  one?.input.end();
  await one?.messages.return();
  response.end('{}');
}

const server = createServer((request, response) => {
  (request.url === '/end' ? end : answer)(request, response).catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    response.destroy();
  });
});

server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`Address: http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
