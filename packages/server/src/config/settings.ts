import { secretsOfUrl } from './database-url.ts';
import { derive } from './derive.ts';
import { collect, SettingsError, type Given, type Source } from './given.ts';
import { thisMachine } from './machine.ts';
import { nearest } from './nearest.ts';
import type { Machine, Settings } from './resolved.ts';
import { settingKeys, table, type SettingKey, type Values } from './table.ts';
import { placeOf } from './upstreams.ts';

export { SettingsError, type Source } from './given.ts';
export type { Machine, Settings } from './resolved.ts';
export type { SettingKey } from './table.ts';

export interface SettingsInput {
  /** Default: this process's environment. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Flags as on a command line, `--config` among them: `['--port', '8001']`. */
  readonly argv?: readonly string[];
  /** Where relative paths start. Default: this process's directory. */
  readonly cwd?: string;
  /** Default: this machine. */
  readonly machine?: Machine;
}

/**
 * Reads the settings: defaults, the config file, the environment, secrets in files, flags, later ones winning. Throws
 * `SettingsError`, one readable line, when one of them cannot be used. Changes nothing.
 */
export function loadSettings(input: SettingsInput = {}): Settings {
  const { env = process.env, argv = [], cwd = process.cwd(), machine = thisMachine() } = input;
  const given = collect(env, argv, cwd);
  const values = Object.fromEntries(settingKeys.map((key) => [key, read(key, given.get(key))])) as unknown as Values;
  const sources = Object.fromEntries(settingKeys.map((key) => [key, given.get(key)?.source ?? 'default']));
  return {
    ...derive({ values, given, cwd, machine }),
    warnings: unknownVariables(env),
    sources: sources as Record<SettingKey, Source>,
  };
}

/** Values of the settings that may be seen nowhere. */
export function secretsOf(settings: Settings): string[] {
  const { databaseUrl, redisUrl, anthropicApiKey, masterKey, userKeys, upstreams, secretKey } = settings;
  const all = [
    ...secretsOfUrl(databaseUrl),
    ...secretsOfUrl(redisUrl),
    anthropicApiKey,
    masterKey,
    secretKey,
    ...userKeys.map((key) => key.secret),
    ...upstreams.flatMap(({ keys }) => keys),
  ];
  return [...new Set(all.filter((value) => value !== null))];
}

function read(key: SettingKey, given: Given | undefined): unknown {
  const { schema, secret, accepts, default: preset } = table[key];
  const text = given?.text ?? preset;
  if (text === null) return null;
  const result = schema.safeParse(text);
  if (result.success) return result.data;
  const name = given?.name ?? table[key].variable;
  if (secret) throw new SettingsError(`${name} cannot be used${placeOf(result.error)}; it must be ${accepts}`);
  if (/:\/\/[^/]*@/.test(text)) throw new SettingsError(`${name} cannot be used; it must be ${accepts}`);
  const own = result.error.issues.find((issue) => issue.code === 'custom' && issue.message !== 'Invalid input');
  const shown = JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
  throw new SettingsError(`${name} is ${shown}; it must be ${accepts}${own ? `: ${own.message}` : ''}`);
}

function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = settingKeys.flatMap((key) => {
    const { variable, secret } = table[key];
    return secret ? [variable, `${variable}_FILE`] : [variable];
  });
  return Object.keys(env)
    .filter((name) => /^(SALLYPORT|CLAUDE_API)_/.test(name) && !known.includes(name))
    .sort()
    .map((name) => `${name} is not a setting and has no effect${nearest(name, known)}`);
}
