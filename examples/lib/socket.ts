import type { ServerFrame, SocketFrameType } from '@sallyport/protocol';
import { call, type Server } from './client.ts';

/**
 * A WebSocket to the service, opened as a browser would: a browser can send no `Authorization` header with it, so it asks
 * for a ticket first. A ticket stands for the key once, for 30 seconds.
 */
export class Socket {
  readonly #socket: WebSocket;
  readonly #frames: ReadableStream<ServerFrame>;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    this.#frames = new ReadableStream({
      start(controller) {
        socket.addEventListener('message', ({ data }) => controller.enqueue(JSON.parse(String(data)) as ServerFrame));
        socket.addEventListener('close', () => controller.close());
      },
    });
  }

  /** The last part of the address is a label of our own, for logs. */
  static async open(server: Server): Promise<Socket> {
    const response = await call(server, 'POST', 'ws-ticket');
    const { ticket } = (await response.json()) as { ticket: string };
    const url = `${server.url.replace(/^http/u, 'ws')}/api/claude/ws/example`;
    const socket = new WebSocket(url, ['sallyport', `sallyport.ticket.${ticket}`]);
    const opened = new Socket(socket);
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve, { once: true });
      socket.addEventListener('error', () => reject(new Error('the socket could not be opened')), { once: true });
    });
    return opened;
  }

  send(frame: { readonly type: SocketFrameType; readonly [field: string]: unknown }): void {
    this.#socket.send(JSON.stringify(frame));
  }

  /** The frames that come, until the socket closes. Whoever leaves the loop finds the later ones in the next. */
  frames(): AsyncIterable<ServerFrame> {
    return this.#frames.values({ preventCancel: true });
  }

  close(): void {
    this.#socket.close();
  }
}
