import type { IncomingMessage, ServerResponse } from 'node:http';
import { newUuid } from '../engine/ids.ts';
import { maxBodyBytes, readBody } from './request.ts';

/** Answers a call of a process that nobody uses yet: one word, no model, no cost. Rejects when the process leaves. */
export async function answerWarming(request: IncomingMessage, response: ServerResponse): Promise<void> {
  await readBody(request, maxBodyBytes);
  const usage = { input_tokens: 1, output_tokens: 1 };
  const message = { type: 'message', role: 'assistant', model: 'none', content: [], stop_reason: null };
  const events = [
    { type: 'message_start', message: { ...message, id: `msg_${newUuid()}`, stop_sequence: null, usage } },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Ready' } },
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage },
    { type: 'message_stop' },
  ];
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(''));
}
