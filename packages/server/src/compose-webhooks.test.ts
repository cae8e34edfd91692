import { deepStrictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { composeWebhooks } from './compose-webhooks.ts';
import { systemClock } from './engine/clock.ts';
import { openStores } from './stores/stores.ts';
import { aDirectory } from './testing/directory.ts';
import { keepingLog } from './testing/redis.ts';
import { load } from './testing/settings.ts';

test('whoever shares a database and has no key that others have too is told that their signatures differ', async (t) => {
  const stores = await openStores({ dataDir: aDirectory(t), clock: systemClock });
  t.after(() => stores.close());
  const warned = (env: Readonly<Record<string, string>>): boolean => {
    const { told, logger } = keepingLog();
    composeWebhooks(load({ ANTHROPIC_API_KEY: 'sk-ant-test', ...env }), stores, logger);
    return told.some(({ message }) => message.includes('SALLYPORT_SECRET_KEY'));
  };
  const DATABASE_URL = 'postgres://user:password@localhost/database';
  const REDIS_URL = 'redis://localhost';
  const SALLYPORT_SECRET_KEY = 'a-key-that-all-servers-have-0123456789';
  const given = [
    {},
    { REDIS_URL },
    { DATABASE_URL },
    { DATABASE_URL, REDIS_URL },
    { DATABASE_URL, SALLYPORT_SECRET_KEY },
  ];
  deepStrictEqual(given.map(warned), [false, false, true, true, false]);
});
