import type { InjectOptions } from 'fastify';
import { HandClock } from '../testing/limiter.ts';
import type { AppOptions } from './app.ts';
import { bearer, localLimiters, testApp } from './testing.ts';

/** Support for the tests of rate limits. */

/** An app with the limits of the service, but for those of the options, and the clock they are counted by. */
export async function limitedApp(options: Partial<AppOptions> = {}) {
  const clock = new HandClock();
  const limiters = localLimiters(clock);
  const made = await testApp({ requestsPerMinute: 30, requestsPerHour: 500, burstSize: 10, limiters, ...options });
  const ask = (request: InjectOptions = {}) =>
    made.app.inject({
      url: '/api/claude/models',
      ...request,
      headers: { host: 'localhost', ...bearer('user'), ...request.headers },
    });
  /** Uses up the burst of a key, and gives the last answer, which is refused. */
  const exhaust = async (request: InjectOptions = {}) => {
    let answer = await ask(request);
    for (let count = 1; answer.statusCode !== 429; count += 1) {
      if (count > 600) throw new Error('nothing is refused');
      answer = await ask(request);
    }
    return answer;
  };
  return { ...made, clock, ask, exhaust };
}

/** The count that an answer tells, as texts; undefined where it tells none. */
export const told = ({ headers }: Awaited<ReturnType<Awaited<ReturnType<typeof limitedApp>>['ask']>>) =>
  ['limit-minute', 'remaining-minute', 'limit-hour', 'remaining-hour'].map((name) => headers[`x-ratelimit-${name}`]);
