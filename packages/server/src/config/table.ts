import { defaultBounds } from '@sallyport/protocol';
import {
  choice,
  directories,
  hostName,
  hostNames,
  httpUrl,
  modelName,
  modelNames,
  origins,
  path,
  proxies,
  secret,
  wholeNumber,
  type Kind,
} from './kinds.ts';

/** One setting. Its key is its name in the config file, and in kebab case its flag. */
export interface SettingSpec<T = unknown, D extends string | null = string | null> extends Kind<T> {
  /** Environment variable. */
  readonly variable: string;
  /** As it would be written; null when it depends on other things, which `defaultText` tells. */
  readonly default: D;
  readonly defaultText?: string;
  /** One sentence: what it is. */
  readonly text: string;
  /** Never shown, never a flag; may also be given as a file that `<variable>_FILE` names. */
  readonly secret: boolean;
}

function setting<T, D extends string | null>(
  kind: Kind<T>,
  spec: Pick<SettingSpec<T, D>, 'variable' | 'default' | 'defaultText' | 'text'>,
): SettingSpec<T, D> {
  return { ...kind, ...spec, secret: false };
}

const secretSetting = (variable: string, minimum: number, text: string): SettingSpec<string, null> => ({
  ...secret(minimum),
  variable,
  default: null,
  defaultText: 'not set',
  text,
  secret: true,
});

const userKey = (number: number) =>
  secretSetting(`CLAUDE_API_KEY_${number}`, 16, `A user key, named \`key-${number}\`.`);

/** A bound of requests: operators may raise it, as clients rely on the default. */
const bound = (variable: string, minimum: number, maximum: number, text: string) =>
  setting(wholeNumber(minimum, maximum), { variable, default: String(minimum), text });

/** Every setting there is, each declared here and nowhere else. */
export const table = {
  host: setting(hostName, { variable: 'SALLYPORT_HOST', default: '127.0.0.1', text: 'Address to listen on.' }),
  port: setting(wholeNumber(0, 65_535), {
    variable: 'SALLYPORT_PORT',
    default: '8000',
    text: 'Port to listen on; 0 takes any free one.',
  }),
  dataDir: setting(path, {
    variable: 'SALLYPORT_DATA_DIR',
    default: './data',
    text: 'Directory of the database and the keys. Made with mode 0700; one server at a time can use it.',
  }),
  runDir: setting(path, {
    variable: 'SALLYPORT_RUN_DIR',
    default: null,
    defaultText: '`sallyport-<uid>-<hash of the data directory>` in the temporary directory',
    text: 'Directory of sockets and workspaces while the server runs. Outside the data directory, with a short path.',
  }),
  anthropicApiKey: secretSetting('ANTHROPIC_API_KEY', 1, 'Key of the upstream. Claude Code never sees it.'),
  anthropicBaseUrl: setting(httpUrl, {
    variable: 'ANTHROPIC_BASE_URL',
    default: 'https://api.anthropic.com',
    text: 'Address of the upstream: Anthropic, or anything that speaks its API.',
  }),
  upstream: setting(choice('anthropic', 'simulator'), {
    variable: 'SALLYPORT_UPSTREAM',
    default: null,
    defaultText: '`anthropic` when `ANTHROPIC_API_KEY` is set, else `simulator`',
    text: 'Which model answers: a real one, or the built-in simulated one, which needs no key.',
  }),
  upstreamFirstByteSeconds: setting(wholeNumber(1, 3600), {
    variable: 'SALLYPORT_UPSTREAM_FIRST_BYTE_SECONDS',
    default: '120',
    text: 'How long the upstream may take to begin an answer, in seconds.',
  }),
  upstreamSilenceSeconds: setting(wholeNumber(1, 3600), {
    variable: 'SALLYPORT_UPSTREAM_SILENCE_SECONDS',
    default: '60',
    text: 'How long the upstream may fall silent within an answer, in seconds.',
  }),
  models: setting(modelNames, {
    variable: 'SALLYPORT_MODELS',
    default: null,
    defaultText: 'current Claude models; with the simulator `sallyport-simulator`',
    text: 'Models that clients may ask for.',
  }),
  defaultModel: setting(modelName, {
    variable: 'SALLYPORT_DEFAULT_MODEL',
    default: null,
    defaultText: '`claude-sonnet-5-5` if it is among the models, else the first of them',
    text: 'Model of requests that name none. One of the models.',
  }),
  prices: setting(path, {
    variable: 'SALLYPORT_PRICES',
    default: null,
    defaultText: 'the built-in list',
    text: 'JSON file with prices of models, put over the built-in list.',
  }),
  masterKey: secretSetting('CLAUDE_API_MASTER_KEY', 16, 'The admin key, named `master`.'),
  key1: userKey(1),
  key2: userKey(2),
  key3: userKey(3),
  key4: userKey(4),
  key5: userKey(5),
  workspaceRoots: setting(directories, {
    variable: 'SALLYPORT_WORKSPACE_ROOTS',
    default: null,
    defaultText: 'the directory the program was started in, when the host is a loopback address; else none',
    text: 'Directories whose content clients may name as `project_path`. Set and empty: none.',
  }),
  isolation: setting(choice('auto', 'bwrap', 'none'), {
    variable: 'SALLYPORT_ISOLATION',
    default: 'auto',
    text: 'Jail of Claude Code. `auto` takes bwrap where it works, and without it starts on loopback only.',
  }),
  corsOrigins: setting(origins, {
    variable: 'SALLYPORT_CORS_ORIGINS',
    default: 'http://localhost:3000',
    text: 'Web origins whose pages may call the service.',
  }),
  publicHosts: setting(hostNames, {
    variable: 'SALLYPORT_PUBLIC_HOSTS',
    default: '',
    text: 'Names the service answers under, besides loopback names and its own address.',
  }),
  trustedProxies: setting(proxies, {
    variable: 'SALLYPORT_TRUSTED_PROXIES',
    default: '',
    text: 'Proxies whose word about the address of a client counts.',
  }),
  requestsPerMinute: setting(wholeNumber(0, 100_000), {
    variable: 'SALLYPORT_REQUESTS_PER_MINUTE',
    default: '30',
    text: 'Most requests of a key in any minute, frames of WebSockets included; 0: no limit.',
  }),
  requestsPerHour: setting(wholeNumber(0, 100_000), {
    variable: 'SALLYPORT_REQUESTS_PER_HOUR',
    default: '500',
    text: 'Most requests of a key in any hour; 0: no limit.',
  }),
  burstSize: setting(wholeNumber(0, 100_000), {
    variable: 'SALLYPORT_BURST_SIZE',
    default: '10',
    text: 'Most requests of a key in any 10 seconds; 0: no limit.',
  }),
  maxOpenPerKey: setting(wholeNumber(1, 1_000_000), {
    variable: 'SALLYPORT_MAX_OPEN_PER_KEY',
    default: '1000',
    text: 'Most requests and sockets that a key may have open at a time; those beyond are refused.',
  }),
  maxProcesses: setting(wholeNumber(1, 10_000), {
    variable: 'SALLYPORT_MAX_PROCESSES',
    default: null,
    defaultText: '8 for each core, at least 4, as far as memory allows 300 MB for each',
    text: 'Most processes of Claude Code at once.',
  }),
  maxWaiting: setting(wholeNumber(0, 1_000_000), {
    variable: 'SALLYPORT_MAX_WAITING',
    default: null,
    defaultText: '10 times the processes',
    text: 'Most runs that wait for a process; those beyond are refused.',
  }),
  maxBodyBytes: setting(wholeNumber(1_000_000, 50_000_000), {
    variable: 'SALLYPORT_MAX_BODY_BYTES',
    default: null,
    defaultText: '1.25 times `SALLYPORT_MAX_FILES_BYTES`',
    text: 'Largest body of a request, in bytes.',
  }),
  conversationTtlSeconds: setting(wholeNumber(60, 31_536_000), {
    variable: 'SALLYPORT_CONVERSATION_TTL',
    default: '3600',
    text: 'Seconds without a message after which a conversation ends by itself; never while a turn runs.',
  }),
  retentionDays: setting(wholeNumber(0, 36_500), {
    variable: 'SALLYPORT_RETENTION_DAYS',
    default: '30',
    text: 'Days for which a conversation can be read after its end; then all of it is deleted.',
  }),
  approvalHoldSeconds: setting(wholeNumber(0, 86_400), {
    variable: 'SALLYPORT_APPROVAL_HOLD',
    default: '300',
    text: 'Seconds for which the process of a conversation is held while a human decides. Freed, it is started again for the decision.',
  }),
  approvalTtlSeconds: setting(wholeNumber(1, 31_536_000), {
    variable: 'SALLYPORT_APPROVAL_TTL',
    default: '86400',
    text: 'Seconds after which an approval that nobody decided is denied.',
  }),
  cacheTtlSeconds: setting(wholeNumber(0, 31_536_000), {
    variable: 'SALLYPORT_CACHE_TTL',
    default: '3600',
    text: 'Seconds for which an answer is given again to requests with `cache`; 0: answers are not stored, and `cache` has no effect.',
  }),
  cacheBytes: setting(wholeNumber(1_000_000, 100_000_000_000), {
    variable: 'SALLYPORT_CACHE_BYTES',
    default: '64000000',
    text: 'Most memory of the stored answers, in bytes. One answer may have a sixteenth of it.',
  }),
  drainSeconds: setting(wholeNumber(0, 3600), {
    variable: 'SALLYPORT_DRAIN_SECONDS',
    default: '30',
    text: 'How long a stopping server lets running turns end by themselves, in seconds.',
  }),
  logLevel: setting(choice('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'), {
    variable: 'SALLYPORT_LOG_LEVEL',
    default: 'info',
    text: 'Least severe log lines that are written.',
  }),
  maxPromptChars: bound(
    'SALLYPORT_MAX_PROMPT_CHARS',
    defaultBounds.promptChars,
    10_000_000,
    'Longest `prompt`, in characters.',
  ),
  maxMessageChars: bound(
    'SALLYPORT_MAX_MESSAGE_CHARS',
    defaultBounds.messageChars,
    10_000_000,
    'Longest `message` of a conversation, in characters.',
  ),
  maxSystemPromptChars: bound(
    'SALLYPORT_MAX_SYSTEM_PROMPT_CHARS',
    defaultBounds.systemPromptChars,
    1_000_000,
    'Longest `system_prompt`, in characters.',
  ),
  maxTurns: bound('SALLYPORT_MAX_TURNS', defaultBounds.maxTurns, 1000, 'Largest `max_turns`, in model calls.'),
  maxTimeoutSeconds: bound(
    'SALLYPORT_MAX_TIMEOUT_SECONDS',
    defaultBounds.timeoutMaxSeconds,
    86_400,
    'Largest `timeout`, in seconds.',
  ),
  maxFiles: bound('SALLYPORT_MAX_FILES', defaultBounds.files, 10_000, 'Most entries of `files`.'),
  maxFilesBytes: bound(
    'SALLYPORT_MAX_FILES_BYTES',
    defaultBounds.filesBytes,
    40_000_000,
    'Largest content of all `files` of a request together, in bytes.',
  ),
};

export type SettingKey = keyof typeof table;

/** All keys, in the order of the table. */
export const settingKeys = Object.keys(table) as SettingKey[];

/** Read values. Null: not given, and without a default of its own. */
export type Values = {
  readonly [K in SettingKey]: (typeof table)[K] extends SettingSpec<infer T, infer D>
    ? D extends string
      ? T
      : T | null
    : never;
};

/** Flag of a setting, as `--port`. */
export function flagOf(key: SettingKey): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
