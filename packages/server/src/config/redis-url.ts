import { z } from 'zod';
import { isDecodable } from './database-url.ts';
import type { Kind } from './kinds.ts';

/** The address of a Redis, with or without TLS. The path, if there is one, is the number of a database. */
export const redisUrl: Kind<string> = {
  accepts: 'an address such as redis://:password@host:6379 or rediss://user:password@host:6379/0',
  schema: z.string().refine(isRedisUrl),
};

function isRedisUrl(value: string): boolean {
  const url = URL.parse(value);
  if (url === null || !/^rediss?:$/.test(url.protocol) || /[\s\u0000-\u001f?#]/u.test(value)) return false;
  const { username, password, hostname, pathname } = url;
  // A user without a password would be let in as nobody, or not at all.
  if (hostname === '' || (username !== '' && password === '')) return false;
  return [username, password].every(isDecodable) && /^(\/\d{0,5})?$/.test(pathname);
}
