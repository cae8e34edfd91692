import { boundSettings } from './bound-settings.ts';
import { databaseUrl } from './database-url.ts';
import { jobSettings } from './job-settings.ts';
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
  wholeNumber,
} from './kinds.ts';
import { nodeSettings } from './node-settings.ts';
import { redisUrl } from './redis-url.ts';
import { secretSetting, setting, type SettingSpec } from './spec.ts';
import { webhookSettings } from './webhook-settings.ts';
import { mostConcurrent, upstreamList, type ListedUpstream } from './upstream-list.ts';

const userKey = (number: number) =>
  secretSetting(`CLAUDE_API_KEY_${number}`, 16, `A user key, named \`key-${number}\`.`);

/** Every setting there is, each declared once. */
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
    text: 'Directory of the database, the keys and the kept workspaces. Made with mode 0700; one server at a time can use it.',
  }),
  runDir: setting(path, {
    variable: 'SALLYPORT_RUN_DIR',
    default: null,
    defaultText: '`sallyport-<uid>-<hash of the data directory>` in the temporary directory',
    text: 'Directory of sockets and workspaces while the server runs. Outside the data directory, with a short path.',
  }),
  databaseUrl: {
    ...databaseUrl,
    variable: 'DATABASE_URL',
    default: null,
    defaultText: 'not set: SQLite in the data directory',
    text: 'A Postgres database of its own, of version 14 or later, that keeps everything but the keys and workspaces of the data directory. Several servers may share it.',
    secret: true,
  } satisfies SettingSpec<string, null>,
  redisUrl: {
    ...redisUrl,
    variable: 'REDIS_URL',
    default: null,
    defaultText: 'not set: each server for itself',
    text: 'A Redis through which several servers share rate limits, stored answers and messages. It keeps nothing that may not be lost.',
    secret: true,
  } satisfies SettingSpec<string, null>,
  ...nodeSettings,
  anthropicApiKey: secretSetting('ANTHROPIC_API_KEY', 1, 'Key of the upstream. Claude Code never sees it.'),
  anthropicBaseUrl: setting(httpUrl, {
    variable: 'ANTHROPIC_BASE_URL',
    default: 'https://api.anthropic.com',
    text: 'Address of the upstream: Anthropic, or anything that speaks its API.',
  }),
  upstreams: {
    ...upstreamList,
    variable: 'SALLYPORT_UPSTREAMS',
    default: null,
    defaultText: 'not set',
    text: 'Further upstreams and their keys, after that of `ANTHROPIC_API_KEY`. A file is read again when it changes.',
    secret: true,
  } satisfies SettingSpec<ListedUpstream[], null>,
  upstream: setting(choice('anthropic', 'simulator'), {
    variable: 'SALLYPORT_UPSTREAM',
    default: null,
    defaultText: '`anthropic` when `ANTHROPIC_API_KEY` or `SALLYPORT_UPSTREAMS` is set, else `simulator`',
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
  upstreamMaxConcurrent: setting(wholeNumber(1, mostConcurrent), {
    variable: 'SALLYPORT_UPSTREAM_MAX_CONCURRENT',
    default: '256',
    text: 'Most calls under way at an upstream that names no `max_concurrent`; those beyond wait, tenants taking turns.',
  }),
  upstreamRetryPercent: setting(wholeNumber(0, 1000), {
    variable: 'SALLYPORT_UPSTREAM_RETRY_PERCENT',
    default: '20',
    text: 'Most repeated calls within 10 seconds, in percent of all calls; 10 repeats are always allowed.',
  }),
  upstreamBreakerCalls: setting(wholeNumber(0, 1_000_000), {
    variable: 'SALLYPORT_UPSTREAM_BREAKER_CALLS',
    default: '20',
    text: 'Fewest calls within 30 seconds of which half must fail for an upstream to be left alone for 5 seconds; 0: never.',
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
    defaultText: '12 for each core, as far as three quarters of the available memory allow 120 MB for each',
    text: 'Most processes of Claude Code that work at a time; further runs wait for one, tenants and their keys taking turns.',
  }),
  processUses: setting(wholeNumber(1, 1_000_000), {
    variable: 'SALLYPORT_PROCESS_USES',
    default: '100',
    text: 'Most one-shots that one process runs, one after the other; it is cleared in between, and stays with its tenant. 1: each gets a process of its own.',
  }),
  spares: setting(wholeNumber(0, 1_000_000), {
    variable: 'SALLYPORT_SPARES',
    default: null,
    defaultText: 'one for each 3 GB of memory, at least 1 and at most 8',
    text: 'Processes that are started before anybody asks for them, so that the first query of a tenant need not wait for one.',
  }),
  maxWaiting: setting(wholeNumber(0, 1_000_000), {
    variable: 'SALLYPORT_MAX_WAITING',
    default: null,
    defaultText: '10 times the processes',
    text: 'Most runs that wait for a process; those beyond are refused, of the tenant with the most waiting first.',
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
  ...jobSettings,
  ...webhookSettings,
  logLevel: setting(choice('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'), {
    variable: 'SALLYPORT_LOG_LEVEL',
    default: 'info',
    text: 'Least severe log lines that are written.',
  }),
  ...boundSettings,
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
