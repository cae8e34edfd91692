import { z } from 'zod';
import type { Kind } from './kinds.ts';

/** The address of a Postgres database. It names a database: `pg` would take one named like the user. */
export const databaseUrl: Kind<string> = {
  accepts: 'an address such as postgres://user:password@host:5432/database',
  schema: z.string().refine(isDatabaseUrl),
};

function isDatabaseUrl(value: string): boolean {
  const url = URL.parse(value);
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol) || /[\s\u0000-\u001f]/u.test(value)) return false;
  const parts = [url.username, url.password, url.hostname, url.pathname.slice(1)];
  return parts.every(isDecodable) && url.hostname !== '' && /^\/[^/]+$/.test(url.pathname);
}

/** True when a part of an address can be read as what it stands for. */
export function isDecodable(part: string): boolean {
  try {
    decodeURIComponent(part);
    return true;
  } catch {
    return false;
  }
}

/** What of the address of a database or a Redis may be seen nowhere: all of it, and its password as it is and as it is written there. */
export function secretsOfUrl(url: string | null): string[] {
  if (url === null) return [];
  const { password, searchParams } = new URL(url);
  return [url, password, decodeURIComponent(password), searchParams.get('password') ?? ''].filter(
    (part) => part !== '',
  );
}
