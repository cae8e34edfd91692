import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocketServer, type WebSocket } from 'ws';
import { Reciter, sharedMicros } from '../recital.ts';

/**
 * The least that Node takes to keep streams or sockets open, to notice which sockets are dead, and to write the same bytes
 * to all: each piece of a recital is made into one buffer, already framed as a chunk, which is handed to each socket itself.
 */
const streams = new Set<ServerResponse>();

function watch(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  response.write(': keep-alive\n\n');
  streams.add(response);
  response.once('close', () => streams.delete(response));
}

/** As long as an event of the service. */
function frameOf(number: number, event: object): Buffer {
  const frame = `id: 3.${number}\ndata: ${JSON.stringify(event)}\n\n`;
  return Buffer.from(`${Buffer.byteLength(frame).toString(16)}\r\n${frame}\r\n`);
}

function writeToAll(number: number, event: object): void {
  const chunk = frameOf(number, event);
  for (const { socket } of streams) socket?.write(chunk);
  const message = Buffer.from(JSON.stringify(event));
  for (const socket of sockets.clients) socket.send(message, { binary: false });
}

async function recite(request: IncomingMessage): Promise<void> {
  const { word, pieces, rate } = (await json(request)) as { word: string; pieces: number; rate: number };
  const reciter = new Reciter(word);
  const started = performance.now();
  const common = { role: 'assistant', tools_used: [], error: null };
  for (let number = 0; number < pieces; number += 1) {
    const wait = started + (number * 1000) / rate - performance.now();
    if (wait > 0.5) await delay(wait);
    const content = reciter.next(sharedMicros());
    writeToAll(number * content.length, { content, ...common, is_complete: false, type: 'text_delta' });
  }
  writeToAll(0, { content: '', ...common, is_complete: true, type: 'result' });
}

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });

/** Sockets that have answered since the last ping, as the documentation of `ws` finds those that have not. */
const alive = new WeakSet<WebSocket>();

function hold(socket: WebSocket): void {
  alive.add(socket);
  socket.on('error', console.error).on('pong', isAlive).on('message', isAlive);
  socket.send('{}');
}

function isAlive(this: WebSocket): void {
  alive.add(this);
}

setInterval(() => {
  for (const socket of sockets.clients) {
    if (alive.delete(socket)) socket.ping();
    else socket.terminate();
  }
}, 15_000);

const server = createServer((request, response) => {
  if (request.method === 'GET') watch(response);
  else void recite(request).then(() => response.end('{}'));
});
server.on('upgrade', (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, hold);
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`Address: http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
