import { canonicalHash } from '../engine/tool-inputs.ts';
import type { Settings } from './resolved.ts';
import { flagOf, settingKeys, table, type SettingKey } from './table.ts';

/** A setting in force, as it may be shown. */
export interface SettingLine {
  readonly key: SettingKey;
  readonly variable: string;
  /** `set` or `not set` for secrets. */
  readonly value: string;
  /** Where the value comes from. */
  readonly source: Settings['sources'][SettingKey];
  readonly text: string;
}

/** Every setting in force, in the order of the table, without any secret. */
export function describeSettings(settings: Settings): SettingLine[] {
  return settingKeys.map((key) => {
    const { variable, text, secret } = table[key];
    const source = settings.sources[key];
    const value = secret ? (source === 'default' ? 'not set' : 'set') : shown(valueOf(settings, key));
    return { key, variable, value, source, text };
  });
}

/** Where a node is and how much it can do: what the nodes of one service need not have in common. */
const ofNode: readonly SettingKey[] = [
  'host',
  'port',
  'dataDir',
  'runDir',
  'workspacesDir',
  'maxProcesses',
  'maxWaiting',
  'spares',
  'jobsAtOnce',
];

/**
 * Names a configuration: the first 16 hex digits of the hash of the program's version and every setting in force, secrets
 * only by whether they are set. What may differ between the nodes of one service is left out, so that the same settings
 * have the same name on every machine.
 */
export function configurationId(settings: Settings, version: string): string {
  const common = describeSettings(settings).filter(({ key }) => !ofNode.includes(key));
  const values = common.map(({ variable, value }) => [variable, value]);
  return canonicalHash([version, values]).slice(0, 16);
}

const boundOf = {
  maxPromptChars: 'promptChars',
  maxMessageChars: 'messageChars',
  maxSystemPromptChars: 'systemPromptChars',
  maxTurns: 'maxTurns',
  maxTimeoutSeconds: 'timeoutMaxSeconds',
  maxFiles: 'files',
  maxFilesBytes: 'filesBytes',
} as const;

type PlainKey = Exclude<SettingKey, keyof typeof boundOf | `key${number}` | 'upstreams'>;

function valueOf(settings: Settings, key: SettingKey): string | number | readonly string[] | null {
  if (Object.hasOwn(boundOf, key)) return settings.bounds[boundOf[key as keyof typeof boundOf]];
  return settings[key as PlainKey];
}

function shown(value: ReturnType<typeof valueOf>): string {
  if (value === null) return 'not set';
  if (typeof value === 'object') return value.length === 0 ? 'none' : value.join(', ');
  return `${value}`;
}

/** The reference page of the settings. */
export function settingsMarkdown(): string {
  const rows = settingKeys.map((key) => {
    const { variable, text, accepts, secret } = table[key];
    const name = secret ? `\`${variable}\` or \`${variable}_FILE\`` : `\`${variable}\``;
    return [name, secret ? '' : `\`${flagOf(key)}\``, `\`${key}\``, defaultOf(key), accepts, text];
  });
  return `${introduction}\n\n${markdownTable(['Variable', 'Flag', 'Config file', 'Default', 'Accepts', 'What it is'], rows)}\n`;
}

const introduction = `# Settings

Each setting is an environment variable, a flag, and a key of the config file (\`--config file.json\`, one JSON object).
The later of these wins: default, config file, environment, a secret in a file that \`<variable>_FILE\` names, flag.
Secrets have no flag, as others can read command lines. A variable that is empty counts as not set, but for lists: an
empty list is empty. A setting that cannot be used stops the start with one line that says why. \`sallyport doctor\` shows
what is in force and where it comes from.`;

function defaultOf(key: SettingKey): string {
  const { default: preset, defaultText } = table[key];
  return defaultText ?? (preset === '' ? 'none' : `\`${preset}\``);
}

function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}
