import type { ServerResponse } from 'node:http';
import type { TestContext } from 'node:test';
import type { BrokerGrant, UpstreamState } from '../engine/ports.ts';
import { HandClock } from '../testing/limiter.ts';
import type { BrokerOptions } from './broker.ts';
import { answerError, answerStream, grant, post, startBroker, startUpstream, upstreamAt } from './test-support.ts';

/** What an upstream does with a call under a key; `count` is the number of the call there, from 1. */
export type KeyedAnswering = (response: ServerResponse, key: string, count: number) => void;

/** A whole answer. */
export const good: KeyedAnswering = (response) => answerStream(response);
/** An error answer. */
export const status =
  (code: number, headers: Record<string, string> = {}): KeyedAnswering =>
  (response) =>
    answerError(response, code, 'words', headers);

const keysOf = (name: string, count: number) => Array.from({ length: count }, (_, index) => `sk-${name}-${index + 1}`);

interface Setup extends Partial<BrokerOptions> {
  readonly granted?: Partial<BrokerGrant>;
  /** Keys of each upstream. */
  readonly keys?: number;
}

/** A turn on a broker with one upstream for each handler, in this order, named `a`, `b` and so on. */
export async function startPooled(
  t: TestContext,
  handlers: readonly KeyedAnswering[],
  { granted, keys = 1, ...options }: Setup = {},
) {
  const clock = new HandClock();
  const upstreams = await Promise.all(
    handlers.map((handler) =>
      startUpstream(t, (response, { headers }, count) => handler(response, String(headers['x-api-key']), count)),
    ),
  );
  const settings = upstreams.map(({ url }, index) => {
    const name = 'abcd'.charAt(index);
    return upstreamAt(url, { name, keys: keysOf(name, keys) });
  });
  const { broker, records, lines } = await startBroker(t, '', { upstreams: settings, clock, ...options });
  const pass = broker.issue();
  const retries: string[] = [];
  const turn = pass.bind(grant({ onRetry: (_attempt, reason) => retries.push(reason), ...granted }));
  const call = () => post(broker, { token: pass.token });
  const counts = () => upstreams.map(({ requests }) => requests.length);
  const used = () => upstreams.flatMap(({ requests }) => requests.map(({ headers }) => headers['x-api-key']));
  return { clock, broker, records, lines, pass, turn, call, retries, settings, counts, used };
}

/** Why each key is put aside, in the order of upstreams and keys; null: it is not. */
export const asides = (states: readonly UpstreamState[]) =>
  states.flatMap(({ credentials }) => credentials.map(({ state, code }) => (state === 'aside' ? code : null)));
