import { setTimeout as delay } from 'node:timers/promises';
import { sendForJson } from '../client.ts';
import { ourPeer, runOptions, type Answer } from '../peers.ts';
import { firstOf, problemOf, type Round, type Row, type Sample } from '../row.ts';
import type { Stage } from '../stage.ts';
import { promptWith } from '../words.ts';

const atOnce = 4;
const jobs = 60;
const pollMs = 50;

/** The service with as many workers as are asked at once on the other side. */
const withWorkers = (stage: Stage) =>
  stage.once('workers', () => stage.startService('workers', { SALLYPORT_JOBS_AT_ONCE: String(atOnce) }));

/** Calls the service as its first user. */
async function call({ service }: Stage, url: string, method: 'GET' | 'POST', path: string, body?: object) {
  const headers = { authorization: `Bearer ${service.keys[0]}` };
  const answer = await sendForJson({ url: `${url}/api/claude/${path}`, method, headers, ...(body && { body }) });
  if (answer.status >= 300) throw new Error(`status ${answer.status}: ${JSON.stringify(answer.body).slice(0, 200)}`);
  return answer.body;
}

/** Has jobs wait in the queue, and then run; from the beginning of the first to the end of the last. */
async function runJobs(stage: Stage, url: string, round: Round) {
  // All begin at once, so that what their making takes is not counted.
  const run_at = new Date(Date.now() + 3000).toISOString();
  const request = (number: number) => ({ prompt: promptWith(round.word(number)), ...runOptions });
  const made = await Promise.all(
    Array.from({ length: jobs }, (_, number) => call(stage, url, 'POST', 'jobs', { request: request(number), run_at })),
  );
  const ended: Record<string, any>[] = [];
  for (const { job_id } of made) {
    for (;;) {
      const job = await call(stage, url, 'GET', `jobs/${job_id}`);
      if (job['ended_at'] !== null && ended.push(job) > 0) break;
      await delay(pollMs);
    }
  }
  const times = (name: string) => ended.map((job) => Date.parse(job[name]));
  const ms = Math.max(...times('ended_at')) - Math.min(...times('started_at'));
  const answers = ended.map((job): Answer => ({
    text: job['result']?.messages?.at(-1)?.content ?? '',
    firstTextMs: 0,
    session: job['session_id'],
    problem: job['status'] === 'completed' ? null : `the job is ${job['status']}: ${job['error']}`,
  }));
  return { ms, answers };
}

/** The same as queries of clients that wait for their answers. */
async function askAll(stage: Stage, url: string, round: Round) {
  const peer = ourPeer(url, stage.service.keys[0] ?? '');
  const answers: Answer[] = [];
  let next = 0;
  const since = performance.now();
  const one = async () => {
    while (next < jobs) {
      const number = next++;
      answers[number] = await peer.query(promptWith(round.word(number)));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  return { ms: performance.now() - since, answers };
}

export const m15: Row = {
  id: 'M15',
  what: `jobs in a second with ${atOnce} workers, against one-shot queries at concurrency ${atOnce}`,
  how: `${jobs} jobs that wait in the queue, from the beginning of the first to the end of the last, and as many queries; both of one service`,
  unit: '1/s',
  sides: ['jobs', 'queries'],
  goal: { of: 'jobs', to: 'queries', atLeast: 0.9 },
  rounds: 3,
  seconds: 0,
  async measure(stage, side, round): Promise<Sample> {
    const { url } = await withWorkers(stage);
    const { ms, answers } = await (side === 'jobs' ? runJobs : askAll)(stage, url, round);
    const problems = answers.map((answer, number) => problemOf(answer, [round.word(number)]));
    const wrong = problems.filter((problem) => problem !== null).length;
    const value = wrong === 0 ? (jobs * 1000) / ms : null;
    return { value, right: jobs - wrong, wrong, problems: firstOf(problems), raw: [ms] };
  },
};
