import { Agent, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { cpuBelowMs, cpuMs } from '../cpu.ts';
import { livePeer } from '../peers.ts';
import { readRecital, recitalPrompt } from '../recital.ts';
import { firstOf, quantileOfAll, type Row } from '../row.ts';
import type { Stage } from '../stage.ts';
import { median } from '../statistics.ts';
import { relay } from './m7.ts';

const calls = 100;
const pieces = 3;
const bodyBytes = 100_000;
const agent = new Agent({ keepAlive: true });

interface OutsideBroker {
  readonly pid: number;
  readonly socket: string;
  readonly token: string;
}

async function brokerOf(stage: Stage): Promise<OutsideBroker> {
  return await stage.once('broker', async () => {
    const env = { BENCH_BASE: stage.base, ANTHROPIC_BASE_URL: stage.upstream.url };
    const child = await stage.start('broker', 'bench/broker/main.ts', { env });
    return { pid: child.pid, socket: child.url, token: /^Token: (\S+)$/mu.exec(child.banner)?.[1] ?? '' };
  });
}

/** A body as long as those of a conversation that has gone on for a while. */
function bodyFor(word: string): Buffer {
  const messages = [
    { role: 'user', content: 'x'.repeat(bodyBytes - 300) },
    { role: 'assistant', content: 'Go on.' },
    { role: 'user', content: recitalPrompt(word, pieces, 100_000) },
  ];
  return Buffer.from(JSON.stringify({ model: 'sallyport-simulator', max_tokens: 1000, stream: true, messages }));
}

/** The text that a stream of the Messages API says. */
function saidIn(stream: string): string {
  const events = [...stream.matchAll(/^data: (.*)$/gmu)].map(([, data = '']) => JSON.parse(data));
  return events.map(({ delta }) => delta?.text ?? '').join('');
}

/** Milliseconds from the sending of a call to the first byte of the answer's body, and what is wrong with the answer. */
async function call(where: object, token: string, word: string): Promise<{ ms: number; problem: string | null }> {
  const body = bodyFor(word);
  const headers = { 'content-type': 'application/json', 'content-length': body.length, 'x-api-key': token };
  const since = performance.now();
  const { ms, status, stream } = await new Promise<{ ms: number; status: number; stream: string }>(
    (resolve, reject) => {
      const options = { ...where, agent, method: 'POST', path: '/v1/messages?beta=true', headers };
      const outgoing = request(options, (response) => {
        response.once('readable', () => {
          const first = performance.now() - since;
          const status = response.statusCode ?? 0;
          text(response).then((stream) => resolve({ ms: first, status, stream }), reject);
        });
      });
      outgoing.once('error', reject).end(body);
    },
  );
  const problem = status === 200 ? readRecital(saidIn(stream), word, pieces).problem : `status ${status}`;
  return { ms, problem };
}

export const m13: Row = {
  id: 'M13',
  what: `time that the broker adds to the first byte of an answer, with bodies of ${bodyBytes / 1000} KB`,
  how: `${calls} calls in each round, one after the other on a kept connection, through the broker in a process of its own and straight to the simulated API`,
  unit: 'ms',
  sides: ['broker', 'direct'],
  goal: { of: 'broker', to: 'direct', by: 'difference', figure: quantileOfAll(0.5, 'ms'), atMost: 0.6 },
  stage: { upstream: 'bench/reciter.ts' },
  rounds: 9,
  seconds: 0,
  async measure(stage, side, { word }) {
    const { socket, token } = await brokerOf(stage);
    const { hostname: host, port } = new URL(stage.upstream.url);
    const where = side === 'broker' ? { socketPath: socket } : { host, port };
    const [raw, problems]: [number[], (string | null)[]] = [[], []];
    for (let number = 0; number < calls; number += 1) {
      const { ms, problem } = await call(where, token, word(number));
      raw.push(ms);
      problems.push(problem);
    }
    const wrong = problems.filter((problem) => problem !== null).length;
    return { value: wrong === 0 ? median(raw) : null, right: calls - wrong, wrong, problems: firstOf(problems), raw };
  },
};

const rate = 200;

export const m13Cpu: Row = {
  id: 'M13-cpu',
  what: 'CPU of the broker for 1000 deltas, against that of the Claude Code that asks through it',
  how: `live turns of ${rate} deltas a second on the SDK alone, jailed, with the broker in a process of its own`,
  unit: 'ms',
  sides: ['broker', 'cli'],
  goal: { of: 'broker', to: 'cli', atMost: 0.25 },
  stage: { upstream: 'bench/reciter.ts' },
  rounds: 5,
  seconds: 10,
  async measure(stage, side, { seconds, word }) {
    const { pid, socket, token } = await brokerOf(stage);
    const env = { BENCH_BASE: stage.base, ANTHROPIC_BASE_URL: stage.upstream.url };
    const through = { ...env, BENCH_BROKER: socket, BENCH_TOKEN: token };
    const raw = await stage.once('raw', () => stage.start('raw', 'bench/raw/main.ts', { env: through }));
    const cpu = () => (side === 'broker' ? cpuMs(pid) : cpuBelowMs(raw.pid));
    return await relay({ peer: livePeer(raw.url, 'told'), cpu, streams: 1, pieces: rate * seconds, rate, word });
  },
};
