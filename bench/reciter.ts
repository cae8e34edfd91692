import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { event, newId } from '../packages/simulator/src/wire.ts';
import { SIMULATOR_MODEL, type MessagesRequest } from '@sallyport/simulator';
import { orderIn, Reciter, sharedMicros } from './recital.ts';

/**
 * A Messages API for long answers: recites what the newest message of the user orders, each piece said when it is due,
 * and answers anything else with one word. It does as little as it can, so that it takes nothing from what is measured.
 */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = (await json(request)) as MessagesRequest;
  const order = orderIn(JSON.stringify(body.messages.findLast(({ role }) => role === 'user') ?? null));
  const say = (data: { type: string; [key: string]: unknown }) => response.write(event(data).bytes);
  const delta = (text: string) => say({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } });
  const usage = { input_tokens: 100, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
  const message = { id: newId('msg'), type: 'message', role: 'assistant', model: SIMULATOR_MODEL, content: [] };
  say({ type: 'message_start', message: { ...message, stop_reason: null, stop_sequence: null, usage } });
  say({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } });
  if (order === null) {
    delta('Ready.');
  } else {
    const reciter = new Reciter(order.word);
    const started = performance.now();
    for (let number = 0; number < order.pieces && !response.destroyed; number += 1) {
      const wait = started + (number * 1000) / order.rate - performance.now();
      if (wait > 0.5) await delay(wait);
      delta(reciter.next(sharedMicros()));
    }
  }
  say({ type: 'content_block_stop', index: 0 });
  const ended = { ...usage, output_tokens: order === null ? 2 : order.pieces * 8 };
  say({ type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: ended });
  say({ type: 'message_stop' });
  response.end();
}

const server = createServer((request, response) => {
  response.on('error', () => {}); // whoever asked has left
  if (request.method !== 'POST' || !(request.url ?? '').startsWith('/v1/messages?')) {
    request.resume();
    response.writeHead(404).end();
  } else answer(request, response).catch(() => response.destroy());
});
// Closing a connection just as it is used again would be a fault nobody asked for.
server.keepAliveTimeout = 0;

server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`Address: http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
