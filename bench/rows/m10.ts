import { sendForJson } from '../client.ts';
import { closedLoop } from '../loop.ts';
import { runOptions } from '../peers.ts';
import { NoFigure, type Row } from '../row.ts';
import type { Stage } from '../stage.ts';
import { answerWith, promptWith, tools } from '../words.ts';

const concurrency = 4;

/** The headers of the request with this number: the keys take turns, as none may ask for all of them. */
function headersOf({ service }: Stage, number: number) {
  return { authorization: `Bearer ${service.keys[number % service.keys.length]}` };
}

async function askEmpty(stage: Stage, number: number): Promise<string | null> {
  const url = `${stage.service.url}/api/claude/health`;
  const { status, body } = await sendForJson({ url, method: 'GET', headers: headersOf(stage, number) });
  return status === 200 && body['status'] === 'healthy' ? null : `status ${status}: ${JSON.stringify(body)}`;
}

async function askCached(stage: Stage, number: number, word: string): Promise<string | null> {
  const { status, body } = await sendForJson({
    url: `${stage.service.url}/api/claude/query`,
    method: 'POST',
    headers: headersOf(stage, number),
    body: { prompt: promptWith(word), ...runOptions, cache: 'auto' },
  });
  if (status !== 200 || body['success'] !== true) return `status ${status}: ${JSON.stringify(body).slice(0, 200)}`;
  if (body['cached'] !== 'hit') return `the answer is not from the cache: cached is ${JSON.stringify(body['cached'])}`;
  const text = body['messages'].at(-1)?.content;
  return text === answerWith([word], tools) ? null : `the answer is wrong: ${String(text).slice(0, 200)}`;
}

/** Has the answer stored: of the two first requests the second one must be answered from the cache. */
async function prime(stage: Stage, word: string): Promise<void> {
  await askCached(stage, 0, word);
  const problem = await askCached(stage, 0, word);
  if (problem !== null) throw new NoFigure(problem);
}

export const m10: Row = {
  id: 'M10',
  what: `cache hits in a second at concurrency ${concurrency}, against an empty authenticated route`,
  how: 'a closed loop on /api/claude/query with cache auto, and one on /api/claude/health; both of the service itself',
  unit: '1/s',
  sides: ['cache hit', 'empty route'],
  goal: { of: 'cache hit', to: 'empty route', atLeast: 0.5 },
  rounds: 5,
  seconds: 1,
  async measure(stage, side, round) {
    const word = round.word(0);
    const isHit = side === 'cache hit';
    if (isHit) await prime(stage, word);
    return await closedLoop({
      concurrency,
      seconds: round.seconds,
      ask: (number) => (isHit ? askCached(stage, number, word) : askEmpty(stage, number)),
    });
  },
};
