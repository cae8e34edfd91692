import { Socket } from 'node:net';

/** How long a server may take to close connections that are ended. */
const endMs = 2000;

/** The sockets of a client or a pool, so that those of a server that does not answer can be closed. */
export class Sockets {
  readonly #open = new Set<Socket>();

  /** Makes a socket that is not connected. */
  readonly make = (): Socket => {
    const socket = new Socket();
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    return socket;
  };

  /** Ends a client or a pool that uses these sockets, if need be without the server. Never rejects. */
  async end(connections: { end(): Promise<unknown> }): Promise<void> {
    const cut = () => this.#open.forEach((socket) => socket.destroy());
    const timer = setTimeout(cut, endMs);
    await connections.end().catch(cut);
    clearTimeout(timer);
  }
}
