import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { query } from '@anthropic-ai/claude-agent-sdk';

/**
 * What one would write instead of this service: a route that starts Claude Code for every request, goes on with a session
 * by its id, and passes the SDK's messages on as server-sent events. It has no keys, no limits, no audit and no jail.
 */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { prompt, session_id } = (await json(request)) as { prompt: string; session_id?: string };
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  const send = (data: unknown) => response.write(`data: ${JSON.stringify(data)}\n\n`);
  try {
    const messages = query({
      prompt,
      options: {
        model: 'sallyport-simulator',
        tools: ['Read', 'Grep', 'Glob'],
        permissionMode: 'dontAsk',
        systemPrompt: { type: 'preset', preset: 'claude_code' },
        settingSources: [],
        strictMcpConfig: true,
        includePartialMessages: true,
        maxTurns: 3,
        ...(session_id !== undefined && { resume: session_id }),
      },
    });
    for await (const message of messages) send(message);
  } catch (error) {
    send({ type: 'error', message: String(error) });
  }
  response.end('data: [DONE]\n\n');
}

const server = createServer((request, response) => void answer(request, response));

server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`Address: http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
