import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** What a program of Node.js says of itself. */
export interface Inside {
  /** After a collection of garbage, in bytes. */
  readonly heap: number;
  /** Timers that keep it alive, and all that does beside them. */
  readonly timers: number;
  readonly resources: number;
}

const pollMs = 20;
const polls = 500;

/** Speaks with the inspector of a program that was started with `--inspect`, and so looks at it as it is. */
export class Inspector {
  readonly #socket: WebSocket;
  readonly #answers = new Map<number, (result: unknown) => void>();
  #last = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const { id, result } = JSON.parse(String(data)) as { id?: number; result?: unknown };
      this.#answers.get(id ?? 0)?.(result);
      this.#answers.delete(id ?? 0);
    });
  }

  /** Connects to the program whose standard error goes to this file. */
  static async open(logFile: string): Promise<Inspector> {
    for (let number = 0; number < polls; number += 1) {
      const address = /^Debugger listening on (ws:\S+)$/mu.exec(await readFile(logFile, 'utf8'))?.[1];
      if (address === undefined) {
        await delay(pollMs);
        continue;
      }
      const socket = new WebSocket(address);
      await new Promise((resolve, reject) => {
        socket.addEventListener('open', resolve, { once: true });
        socket.addEventListener('error', () => reject(new Error('the inspector cannot be reached')), { once: true });
      });
      return new Inspector(socket);
    }
    throw new Error('the service has no inspector');
  }

  async look(): Promise<Inside> {
    // The second one takes what the first has made free.
    for (let times = 0; times < 2; times += 1) await this.#call('HeapProfiler.collectGarbage', {});
    const { heap, resources } = (await this.evaluate(
      '({ heap: process.memoryUsage().heapUsed, resources: process.getActiveResourcesInfo() })',
    )) as { heap: number; resources: string[] };
    const timers = resources.filter((name) => name === 'Timeout').length;
    return { heap, timers, resources: resources.length - timers };
  }

  /** The value of an expression within the program, of a promise when it is settled. */
  async evaluate(expression: string): Promise<unknown> {
    const asked = { expression, returnByValue: true, awaitPromise: true };
    const { result } = (await this.#call('Runtime.evaluate', asked)) as { result: { value: unknown } };
    return result.value;
  }

  close(): void {
    this.#socket.close();
  }

  #call(method: string, params: object): Promise<unknown> {
    this.#last += 1;
    const id = this.#last;
    return new Promise((resolve) => {
      this.#answers.set(id, resolve);
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }
}
