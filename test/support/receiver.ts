import assert from 'node:assert/strict';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { until } from './runs.ts';

/** What lets a service send webhooks to a receiver of a test. */
export const toLoopback = { SALLYPORT_WEBHOOK_PRIVATE_NETWORKS: '127.0.0.1' };

/** A webhook as it arrived. */
export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A receiver of webhooks on loopback. */
export interface Receiver {
  readonly url: string;
  readonly received: readonly Received[];
  /** The webhooks that came to a path, once there are so many. */
  at(path: string, count?: number): Promise<Received[]>;
  close(): void;
}

/** Starts one that answers each webhook as the test says: `count` is how many have come to its path, this one included. */
export async function startReceiver(
  answer: (response: ServerResponse, path: string, count: number) => void,
): Promise<Receiver> {
  const received: Received[] = [];
  const to = (path: string) => received.filter((one) => one.path === path);
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (part: string) => (body += part));
    request.on('end', () => {
      const { url: path = '', headers } = request;
      received.push({ path, headers, body });
      answer(response, path, to(path).length);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    async at(path, count = 1) {
      await until(() => to(path).length >= count);
      return to(path);
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/**
 * Verifies a webhook as the text of Standard Webhooks says: the HMAC-SHA256, under the bytes that the secret is base64 of,
 * of id, timestamp and body with dots between is one of the signatures. Gives the parsed body.
 */
export function verified({ headers, body }: Received, secret: string): Record<string, any> {
  const [id, timestamp, signatures] = ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((name) =>
    String(headers[name]),
  );
  assert.ok(Math.abs(Date.now() / 1000 - Number(timestamp)) < 300, 'it was sent just now');
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest();
  const given = (signatures ?? '').split(' ').map((one) => Buffer.from(one.slice('v1,'.length), 'base64'));
  assert.ok(
    given.some((one) => one.length === expected.length && timingSafeEqual(one, expected)),
    'it is signed',
  );
  return JSON.parse(body) as Record<string, any>;
}
