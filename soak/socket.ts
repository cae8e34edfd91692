import { Crashed, expect, Wrong, type Body, type Client } from './client.ts';

/** A WebSocket to the service, opened with a ticket as a browser does. */
export class Socket {
  readonly #socket: WebSocket;
  readonly #frames: Body[] = [];
  #closed = false;
  #wake = (): void => {};

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      this.#frames.push(JSON.parse(String(data)) as Body);
      this.#wake();
    });
    socket.addEventListener('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  static async open(client: Client): Promise<Socket> {
    const { ticket } = await client.json('POST', 'ws-ticket');
    const url = `${client.url.replace(/^http/u, 'ws')}/api/claude/ws/soak`;
    const socket = new WebSocket(url, ['sallyport', `sallyport.ticket.${ticket}`]);
    const opened = new Socket(socket);
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve, { once: true });
      socket.addEventListener('error', () => reject(new Wrong('a socket could not be opened')), { once: true });
    });
    return opened;
  }

  send(frame: Body): void {
    this.#socket.send(JSON.stringify(frame));
  }

  /** The next frame. Throws `Wrong` when the socket is closed instead. */
  async next(): Promise<Body> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame !== undefined) return frame;
      if (this.#closed) throw new Wrong('a socket was closed in mid-conversation');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /**
   * Reads a turn to its end, or until so many characters of its text are there. The end is null then. Refusals because
   * there is too much to do are given as null for both.
   */
  async turn(enough = Infinity, before = ''): Promise<{ text: string; end: Body | null; cursor: string } | null> {
    let [text, cursor] = [before, ''];
    for (;;) {
      const frame = await this.next();
      if (frame['type'] === 'error' && frame['code'] === 'overloaded') return null;
      if (frame['type'] === 'error' && frame['code'] === 'agent_crashed') throw new Crashed();
      expect(frame['type'] !== 'error', 'a socket told of an error', frame);
      if (frame['type'] !== 'claude_response') continue;
      cursor = frame['seq'] as string;
      if (frame['event_type'] === 'restart') text = '';
      if (frame['event_type'] === 'text_delta') text += frame['content'];
      if (frame['is_complete'] === true) return { text, end: frame, cursor };
      if (text.length >= enough) return { text, end: null, cursor };
    }
  }

  close(): void {
    this.#socket.close();
  }
}
