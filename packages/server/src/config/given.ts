import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { nearest } from './nearest.ts';
import { flagOf, settingKeys, table, type SettingKey } from './table.ts';

/** Thrown when a setting cannot be used. The message is one line that names it, its value unless secret, and what is right. */
export class SettingsError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SettingsError';
  }
}

export const sources = ['default', 'config file', 'environment', 'secret file', 'flag'] as const;
/** Where a value comes from. Later ones win. */
export type Source = (typeof sources)[number];

/** A value as it was given. */
export interface Given {
  readonly text: string;
  readonly source: Source;
  /** What the operator has to change: a variable, a flag, or a key of the config file. */
  readonly name: string;
  /** Of a secret in a file: where it is, absolute. */
  readonly path?: string;
}

export type GivenSettings = ReadonlyMap<SettingKey, Given>;

/** Collects what is given, the winning source for each setting. Throws `SettingsError`. */
export function collect(
  env: Readonly<Record<string, string | undefined>>,
  argv: readonly string[],
  cwd: string,
): GivenSettings {
  const flags = readFlags(argv);
  const given = new Map<SettingKey, Given>();
  if (flags.config !== undefined) readConfigFile(resolve(cwd, flags.config), given);
  for (const key of settingKeys) {
    const { variable, secret } = table[key];
    put(given, key, env[variable], 'environment', variable);
    const file = secret ? env[`${variable}_FILE`] : undefined;
    if (file) {
      const [path, name] = [resolve(cwd, file), `${variable}_FILE`];
      given.set(key, { text: readSecret(path, name), source: 'secret file', name, path });
    }
  }
  for (const [key, text] of flags.values) put(given, key, text, 'flag', flagOf(key));
  return given;
}

function put(given: Map<SettingKey, Given>, key: SettingKey, text: string | undefined, source: Source, name: string) {
  if (text === undefined) return;
  const { secret, separator } = table[key];
  const trimmed = secret ? text : text.trim();
  // Compose files pass variables that nobody set as empty ones.
  if (trimmed !== '' || separator !== undefined) given.set(key, { text: trimmed, source, name });
}

function readFlags(argv: readonly string[]): { config: string | undefined; values: [SettingKey, string][] } {
  const byFlag = new Map(settingKeys.map((key) => [flagOf(key), key]));
  const { tokens } = parseArgs({ args: [...argv], strict: false, tokens: true, options: stringOptions(byFlag.keys()) });
  const values: [SettingKey, string][] = [];
  let config: string | undefined;
  for (const token of tokens) {
    if (token.kind !== 'option') {
      throw new SettingsError(`${JSON.stringify(argv[token.index])} is not a flag`);
    }
    const { rawName, value } = token;
    const key = byFlag.get(rawName);
    if (key === undefined && rawName !== '--config') {
      throw new SettingsError(`${rawName} is not a flag${nearest(rawName, ['--config', ...publicFlags()])}`);
    }
    if (key !== undefined && table[key].secret) {
      const { variable } = table[key];
      throw new SettingsError(
        `${rawName} is not a flag, as others can read command lines; use ${variable} or ${variable}_FILE`,
      );
    }
    if (value === undefined) throw new SettingsError(`${rawName} needs a value`);
    if (key === undefined) config = value;
    else values.push([key, value]);
  }
  return { config, values };
}

const publicFlags = () => settingKeys.filter((key) => !table[key].secret).map(flagOf);

const stringOptions = (flags: Iterable<string>) =>
  Object.fromEntries(['--config', ...flags].map((flag) => [flag.slice(2), { type: 'string' as const }]));

function readConfigFile(path: string, given: Map<SettingKey, Given>): void {
  const content = parseConfig(path);
  for (const [key, value] of Object.entries(content)) {
    if (!Object.hasOwn(table, key)) {
      throw new SettingsError(`"${key}" in ${path} is not a setting${nearest(key, settingKeys)}`);
    }
    const name = `"${key}" in ${path}`;
    if (value !== null) put(given, key as SettingKey, textOf(value, name, key as SettingKey), 'config file', name);
  }
}

function parseConfig(path: string): object {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new SettingsError(
      `the config file ${path} ${error instanceof SyntaxError ? 'is not JSON' : unreadable(error)}`,
    );
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new SettingsError(`the config file ${path} must hold one JSON object`);
  }
  return content;
}

function textOf(value: unknown, name: string, key: SettingKey): string {
  const { separator, accepts } = table[key];
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  const isList = Array.isArray(value) && separator !== undefined;
  if (isList && value.every((item) => typeof item === 'string' && !item.includes(separator)))
    return value.join(separator);
  throw new SettingsError(`${name} must be ${accepts}`);
}

const largestSecret = 1_000_000;

/** The content of a secret's file, without blanks around it. Throws `SettingsError`, which shows nothing of it. */
export function readSecret(path: string, name: string): string {
  let problem = 'is empty';
  try {
    if (statSync(path).size > largestSecret) problem = `is larger than ${largestSecret} bytes`;
    else {
      const text = readFileSync(path, 'utf8').trim();
      if (text !== '') return text;
    }
  } catch (error) {
    problem = unreadable(error);
  }
  throw new SettingsError(`${name} is ${JSON.stringify(path)}, which ${problem}`);
}

const unreadable = (error: unknown) => `cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`;
