import { Agent, request } from 'node:http';

const agent = new Agent({ keepAlive: true });

export interface Call {
  readonly url: string;
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Gives the request up: then it rejects. */
  readonly signal?: AbortSignal;
}

/** Sends a request and gives every piece of the answer as it comes; resolves with the status at its end. */
export function send(
  { url, method, headers = {}, body, signal }: Call,
  piece: (text: string) => void,
): Promise<number> {
  const bytes = body === undefined ? null : Buffer.from(JSON.stringify(body));
  const content = bytes && { 'content-type': 'application/json', 'content-length': bytes.length };
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method, agent, signal, headers: { ...headers, ...content } }, (response) => {
      response.setEncoding('utf8').on('data', piece);
      response.once('error', reject).once('end', () => resolve(response.statusCode ?? 0));
    });
    outgoing.once('error', reject).end(bytes ?? undefined);
  });
}

/** Sends a request that is answered as one piece of JSON. */
export async function sendForJson(call: Call): Promise<{ status: number; body: Record<string, any> }> {
  let text = '';
  const status = await send(call, (piece) => (text += piece));
  return { status, body: JSON.parse(text) as Record<string, any> };
}

/** Sends a request that is answered with server-sent events, and gives each of them but the closing `[DONE]`. */
export async function sendForEvents(call: Call, take: (event: Record<string, any>) => void): Promise<number> {
  let rest = '';
  return await send(call, (piece) => {
    const blocks = (rest + piece).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = /^data: (.*)$/mu.exec(block)?.[1];
      if (data !== undefined && data !== '[DONE]') take(JSON.parse(data) as Record<string, any>);
    }
  });
}
