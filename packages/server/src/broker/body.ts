import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { Socket } from 'node:net';

/**
 * The answer that a process gets. Node writes each chunk of an answer in four parts; here it is one, written to the
 * connection itself. This rests on what Node has always done: once its head was flushed, an answer writes nothing by
 * itself before its end.
 */
export class AnswerBody {
  readonly #response: ServerResponse;
  /** Null: the answer has a length, or is behind another one, and frames what it writes. */
  #socket: Socket | null = null;
  #flushed = false;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  /** Forms the head. It leaves with the first bytes of the body, or with the end. */
  begin(status: number, headers: OutgoingHttpHeaders): void {
    const response = this.#response.writeHead(status, headers);
    const { socket } = response;
    if (response.chunkedEncoding && socket instanceof Socket) this.#socket = socket;
  }

  /** Sends bytes, at least one. False: the process does not take them as fast as they come. */
  send(data: Buffer): boolean {
    const socket = this.#socket;
    if (socket === null) return this.#response.write(data);
    if (this.#flushed) return socket.write(chunkOf(data));
    this.#flushed = true;
    socket.cork();
    this.#response.flushHeaders();
    const taken = socket.write(chunkOf(data));
    socket.uncork();
    return taken;
  }

  /** Calls back once, when the process has taken what was sent. */
  onTaken(taken: () => void): void {
    (this.#socket ?? this.#response).once('drain', taken);
  }
}

/** The bytes as a chunk of HTTP/1.1. */
function chunkOf(data: Buffer): Buffer {
  const head = `${data.length.toString(16)}\r\n`;
  const chunk = Buffer.allocUnsafe(head.length + data.length + 2);
  chunk.write(head, 'latin1');
  chunk.set(data, head.length);
  chunk.write('\r\n', chunk.length - 2, 'latin1');
  return chunk;
}
