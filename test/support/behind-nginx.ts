import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { startNginx } from './nginx.ts';

/** A request as a node got it. */
export interface Got {
  readonly node: string;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export type Answer = (request: IncomingMessage, response: ServerResponse, node: string) => void;

const says: Answer = (_request, response, node) => void response.end(node);

/** A server in the place of a node, that notes what it gets. */
async function aNode(t: TestContext, node: string, got: Got[], answer: () => Answer): Promise<string> {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      got.push({ node, method, url, headers, body });
      answer()(request, response, node);
    });
  });
  server.on('upgrade', ({ method = '', url = '', headers }, socket) => {
    got.push({ node, method, url, headers, body: '' });
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
    socket.on('data', (chunk: Buffer) => socket.end(`echo ${chunk.toString()}`));
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** nginx before two nodes, `a` and `b`, that answer with their name or as told; and one that does not run, if need be. */
export async function before(t: TestContext, part?: 'and one that is gone') {
  const got: Got[] = [];
  let answer = says;
  const nodes = await Promise.all(['a', 'b'].map((name) => aNode(t, name, got, () => answer)));
  if (part) nodes.push('127.0.0.1:1'); // where nobody may listen but the system itself
  const nginx = await startNginx(nodes);
  t.after(() => nginx.close());
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(`${nginx.url}${path}`, init);
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  return { nginx, got, ask, answer: (by: Answer) => void (answer = by) };
}

/** Sends bytes and gives what comes back until the connection ends or an answer is there. */
export async function raw(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let received = '';
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString();
    if (/\r\n\r\n./u.test(received)) socket.end();
  });
  socket.on('error', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
  return received;
}
