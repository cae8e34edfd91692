import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { Opening, Seen } from '../watchers.ts';

/** Watchers of one conversation, in a process of their own, so that whoever runs the turn does not have to read them. */
interface Watcher {
  /** All that it was told, an event in each line that does not begin with a colon. */
  text: string;
  close(): void;
}

const openAtOnce = 50;
const collectMs = 60_000;
let watchers: Watcher[] = [];

/** Resolves when the stream has begun. */
function watchStream({ url, headers }: Opening): Promise<Watcher> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { headers, agent: false }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`a stream was answered with ${response.statusCode}`));
      const watcher: Watcher = { text: '', close: () => outgoing.destroy() };
      response.setEncoding('utf8').on('data', (text: string) => {
        watcher.text += text;
        resolve(watcher);
      });
      response.on('error', () => {}); // closed by us
    });
    outgoing.on('error', reject).end();
  });
}

/** Resolves when the first frame has come. */
function watchSocket({ url, headers, first }: Opening): Promise<Watcher> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { headers, perMessageDeflate: false });
    const watcher: Watcher = { text: '', close: () => socket.terminate() };
    socket.on('error', reject).once('open', () => first && socket.send(JSON.stringify(first)));
    socket.on('message', (data: Buffer) => {
      watcher.text += `data: ${data.toString()}\n`;
      resolve(watcher);
    });
  });
}

async function open(opening: Opening): Promise<object> {
  const watch = opening.kind === 'socket' ? watchSocket : watchStream;
  for (let left = opening.count; left > 0; left -= openAtOnce) {
    const some = Array.from({ length: Math.min(left, openAtOnce) }, () => watch(opening));
    watchers.push(...(await Promise.all(some)));
  }
  return {};
}

/** Waits until everybody was told so many ends of turns. */
async function collect({ ends }: { ends: number }): Promise<Seen> {
  const since = performance.now();
  const waits = ({ text }: Watcher) => text.split('"is_complete":true').length - 1 < ends;
  while (watchers.some(waits) && performance.now() - since < collectMs) await delay(100);
  const late = watchers.filter(waits).length;
  return { count: watchers.length - late, late, texts: [...new Set(watchers.map(({ text }) => lastAnswerIn(text)))] };
}

/** What was said since the last message of the user. */
function lastAnswerIn(text: string): string {
  let answer = '';
  for (const [, data = ''] of text.matchAll(/^data: (\{.*)$/gmu)) {
    const { type, event_type, content } = JSON.parse(data) as Record<string, string>;
    const kind = type === 'claude_response' ? event_type : type;
    if (kind === 'user_message' || kind === 'restart') answer = '';
    if (kind === 'text_delta') answer += content;
  }
  return answer;
}

async function close(): Promise<object> {
  for (const watcher of watchers) watcher.close();
  watchers = [];
  return {};
}

const routes: Record<string, (body: any) => Promise<object>> = { '/open': open, '/collect': collect, '/close': close };

const server = createServer((incoming, response) => {
  json(incoming)
    .then((body) => routes[incoming.url ?? '']!(body))
    .then(
      (answer) => response.end(JSON.stringify(answer)),
      (error: unknown) => response.writeHead(500).end(JSON.stringify({ error: String(error) })),
    );
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`Address: http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
