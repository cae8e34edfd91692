import { resolve } from 'node:path';
import type { z } from 'zod';
import { readSecret, SettingsError, type Given, type GivenSettings } from './given.ts';
import { mostKeys, upstreamKey, upstreamList, type ListedUpstream } from './upstream-list.ts';

/** Where model calls go, in the order in which they go there. */
export interface UpstreamEntry {
  readonly name: string;
  readonly baseUrl: string;
  /** At least one, no two the same. */
  readonly keys: readonly string[];
  readonly maxConcurrent: number;
  /** Null: every model. */
  readonly models: readonly string[] | null;
}

/** What the upstreams are made of. */
export interface UpstreamInput {
  readonly given: GivenSettings;
  readonly cwd: string;
  readonly key: string | null;
  readonly baseUrl: string;
  readonly list: readonly ListedUpstream[] | null;
  readonly maxConcurrent: number;
  /** Those that are offered: each must have an upstream. */
  readonly models: readonly string[];
}

/**
 * The upstreams in force: that of `ANTHROPIC_API_KEY` if it is set, then those of the list. Throws `SettingsError`, which
 * shows nothing of a key, when they do not go together or a file of keys cannot be read.
 */
export function upstreamsOf(input: UpstreamInput): UpstreamEntry[] {
  const { baseUrl, maxConcurrent } = input;
  const listed = (input.list ?? []).map((one) => fromList(one, input));
  const plain = { name: 'anthropic', baseUrl, maxConcurrent, models: null };
  const all = input.key === null ? listed : [{ ...plain, keys: [input.key] }, ...listed];
  const name = input.given.get('upstreams')?.name ?? 'SALLYPORT_UPSTREAMS';
  const twice = all.find((one, index) => all.findIndex((other) => other.name === one.name) < index)?.name;
  if (twice !== undefined) {
    const plainToo = input.key !== null && twice === 'anthropic' ? '; the one of ANTHROPIC_API_KEY has that name' : '';
    throw new SettingsError(`${name} has two upstreams named "${twice}"${plainToo}; every name must be different`);
  }
  for (const { name: upstream, keys } of all) {
    if (new Set(keys).size === keys.length) continue;
    throw new SettingsError(`${name}: "${upstream}" has the same key twice; every key must be different`);
  }
  const unserved = input.models.find((model) => !all.some(({ models }) => models?.includes(model) ?? true));
  if (unserved !== undefined) {
    throw new SettingsError(`${name} has no upstream for the model ${JSON.stringify(unserved)}, which is offered`);
  }
  return all;
}

/** Reads again what came from files; null when nothing did. Throws like `upstreamsOf`, or when a file has become unusable. */
export function rereaderOf(input: UpstreamInput): (() => UpstreamEntry[]) | null {
  const keyFrom = input.given.get('anthropicApiKey');
  const listFrom = input.given.get('upstreams');
  const filesOfKeys = (input.list ?? []).some(({ key_file: file }) => file !== undefined);
  if (keyFrom?.path === undefined && listFrom?.path === undefined && !filesOfKeys) return null;
  return () =>
    upstreamsOf({
      ...input,
      key: again<string | null>(keyFrom, upstreamKey, input.key),
      list: again<readonly ListedUpstream[] | null>(listFrom, upstreamList.schema, input.list),
    });
}

function again<T>(from: Given | undefined, schema: z.ZodType<T, string>, before: T): T {
  if (from?.path === undefined) return before;
  const read = schema.safeParse(readSecret(from.path, from.name));
  if (read.success) return read.data;
  throw new SettingsError(`${from.name} cannot be used${placeOf(read.error)}`);
}

/** Where in a secret the first mistake is, without its content; empty when that cannot be told. */
export function placeOf(error: z.ZodError): string {
  const place = error.issues[0]?.path.join('.') ?? '';
  return place === '' ? '' : ` at ${place}`;
}

function fromList(one: ListedUpstream, { given, cwd, maxConcurrent }: UpstreamInput): UpstreamEntry {
  const { name, base_url: baseUrl, keys, key_file: file, max_concurrent: most, models } = one;
  const variable = `${given.get('upstreams')?.name ?? 'SALLYPORT_UPSTREAMS'}: key_file of "${name}"`;
  return {
    name,
    baseUrl,
    keys: keys ?? keysIn(file ?? '', cwd, variable),
    maxConcurrent: most ?? maxConcurrent,
    models: models ?? null,
  };
}

/** One key a line. */
function keysIn(file: string, cwd: string, name: string): string[] {
  const keys = readSecret(resolve(cwd, file), name)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (keys.length <= mostKeys && keys.every((one) => upstreamKey.safeParse(one).success)) return keys;
  throw new SettingsError(`${name} is ${JSON.stringify(file)}, which must hold one key a line, at most ${mostKeys}`);
}
