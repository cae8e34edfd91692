import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { defaultBounds, type Bounds } from '@sallyport/protocol';
import { SettingsError, type GivenSettings } from './given.ts';
import type { Machine, Settings } from './resolved.ts';
import { table, type SettingKey, type Values } from './table.ts';
import { rereaderOf, upstreamsOf, type UpstreamInput } from './upstreams.ts';

interface Input {
  readonly values: Values;
  readonly given: GivenSettings;
  readonly cwd: string;
  readonly machine: Machine;
}

/** Models of Anthropic that are offered when the operator names none. */
const claudeModels = [
  'claude-sonnet-5-5',
  'claude-opus-5-5',
  'claude-fable-5-2',
  'claude-haiku-5-5',
  'claude-sonnet-4-6',
  'claude-opus-4-8',
  'claude-haiku-4-5',
];
const simulatorModels = ['sallyport-simulator'];

/** What a process takes of the memory of the system, where many share the pages of the program. */
const processBytes = 120_000_000;
/** A quarter of the memory is left: some processes grow, and others need it too. */
const memoryShare = 0.75;
/** How many answers of a model that are streamed at a time keep a core busy. */
const processesPerCore = 12;

/** Fills in what depends on other settings or on the machine, and refuses what does not go together. */
export function derive(input: Input): Omit<Settings, 'warnings' | 'sources'> {
  const { values, cwd, machine } = input;
  const { host, port, isolation, cacheBytes, maxOpenPerKey, logLevel } = values;
  const { corsOrigins, publicHosts, trustedProxies, requestsPerMinute, requestsPerHour, burstSize } = values;
  const loopback = isLoopback(host);
  const maxProcesses = values.maxProcesses ?? processesOf(machine);
  const dataDir = resolve(cwd, values.dataDir);
  const models = modelsOf(input);
  return {
    host,
    loopback,
    port,
    dataDir,
    runDir: runDirOf(input, dataDir),
    databaseUrl: values.databaseUrl,
    redisUrl: values.redisUrl,
    workspacesDir: values.workspacesDir === null ? null : resolve(cwd, values.workspacesDir),
    ...upstreamSettings(input, models.models),
    ...models,
    prices: values.prices === null ? null : resolve(cwd, values.prices),
    masterKey: values.masterKey,
    userKeys: userKeysOf(input),
    workspaceRoots: values.workspaceRoots ?? defaultRoots(loopback, cwd),
    isolation,
    corsOrigins,
    publicHosts,
    trustedProxies,
    requestsPerMinute,
    requestsPerHour,
    burstSize,
    maxOpenPerKey,
    maxProcesses,
    maxWaiting: values.maxWaiting ?? 10 * maxProcesses,
    processUses: values.processUses,
    spares: Math.min(values.spares ?? sparesOf(machine), maxProcesses - 1),
    maxBodyBytes: values.maxBodyBytes ?? values.maxFilesBytes * 1.25,
    ...spansOf(values),
    cacheBytes,
    jobsAtOnce: values.jobsAtOnce ?? machine.cores,
    jobsPerTenant: values.jobsPerTenant,
    maxQueuedJobs: values.maxQueuedJobs,
    webhookPrivateNetworks: values.webhookPrivateNetworks,
    secretKey: values.secretKey,
    logLevel,
    bounds: boundsOf(values),
  };
}

/** How long things last. */
function spansOf(values: Values) {
  const { conversationTtlSeconds, retentionDays, approvalHoldSeconds, approvalTtlSeconds } = values;
  const { cacheTtlSeconds, drainSeconds, leaseSeconds } = values;
  return {
    conversationTtlSeconds,
    retentionDays,
    approvalHoldSeconds,
    approvalTtlSeconds,
    cacheTtlSeconds,
    drainSeconds,
    leaseSeconds,
  };
}

const nameOf = ({ given }: Input, key: SettingKey) => given.get(key)?.name ?? table[key].variable;

const isLoopback = (host: string) =>
  host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));

const processesOf = ({ cores, memoryBytes }: Machine) =>
  Math.max(1, Math.min(processesPerCore * cores, Math.floor((memoryShare * memoryBytes) / processBytes)));

/** As many as new tenants that come at random need, so that hardly one finds none. */
const sparesOf = ({ memoryBytes }: Machine) => Math.max(1, Math.min(8, Math.floor(memoryBytes / (3 * 2 ** 30))));

function upstreamOf(input: Input): Settings['upstream'] {
  const { upstream, upstreams, anthropicApiKey } = input.values;
  const keyless = anthropicApiKey === null && upstreams === null;
  if (upstream === 'anthropic' && keyless) {
    throw new SettingsError(
      `${nameOf(input, 'upstream')} is "anthropic", but ANTHROPIC_API_KEY is not set; set it, or use "simulator"`,
    );
  }
  return upstream ?? (keyless ? 'simulator' : 'anthropic');
}

function upstreamSettings(input: Input, models: readonly string[]) {
  const { values, given, cwd } = input;
  const { anthropicApiKey, anthropicBaseUrl, upstreamMaxConcurrent } = values;
  const parts: UpstreamInput = {
    given,
    cwd,
    key: anthropicApiKey,
    baseUrl: anthropicBaseUrl,
    list: values.upstreams,
    maxConcurrent: upstreamMaxConcurrent,
    models,
  };
  const upstream = upstreamOf(input);
  const simulated = upstream === 'simulator';
  return {
    upstream,
    anthropicApiKey,
    anthropicBaseUrl,
    upstreams: simulated ? [] : upstreamsOf(parts),
    rereadUpstreams: simulated ? null : rereaderOf(parts),
    upstreamMaxConcurrent,
    upstreamRetryPercent: values.upstreamRetryPercent,
    upstreamBreakerCalls: values.upstreamBreakerCalls,
    upstreamFirstByteSeconds: values.upstreamFirstByteSeconds,
    upstreamSilenceSeconds: values.upstreamSilenceSeconds,
  };
}

function modelsOf(input: Input): Pick<Settings, 'models' | 'defaultModel'> {
  const { models, defaultModel: asked } = input.values;
  if (models?.length === 0)
    throw new SettingsError(`${nameOf(input, 'models')} is empty; it must name at least one model`);
  const simulated = upstreamOf(input) === 'simulator';
  const builtIn = simulated ? simulatorModels : claudeModels;
  const offered = models ?? (asked === null || simulated ? builtIn : [...new Set([asked, ...builtIn])]);
  const [first = ''] = offered;
  const [usual = ''] = builtIn;
  const defaultModel = asked ?? (offered.includes(usual) ? usual : first);
  if (!offered.includes(defaultModel)) {
    throw new SettingsError(
      `${nameOf(input, 'defaultModel')} is ${JSON.stringify(defaultModel)}; it must be one of the models: ${offered.join(', ')}`,
    );
  }
  return { models: offered, defaultModel };
}

function userKeysOf(input: Input): { name: string; secret: string }[] {
  const keys = ['masterKey', 'key1', 'key2', 'key3', 'key4', 'key5'] as const;
  const owners = new Map<string, SettingKey>();
  const userKeys: { name: string; secret: string }[] = [];
  for (const key of keys) {
    const secret = input.values[key];
    if (secret === null) continue;
    const other = owners.get(secret);
    if (other !== undefined) {
      throw new SettingsError(
        `${nameOf(input, key)} is the same as ${nameOf(input, other)}; every key must be different`,
      );
    }
    owners.set(secret, key);
    if (key !== 'masterKey') userKeys.push({ name: key.replace('key', 'key-'), secret });
  }
  return userKeys;
}

/** The root of the file system is where services are started, not a project. */
function defaultRoots(loopback: boolean, cwd: string): string[] {
  const root = realpathSync(cwd);
  return loopback && root !== dirname(root) ? [root] : [];
}

/** Longest path of a socket, with its end, that every system takes. */
const socketPathBytes = 100;

function runDirOf(input: Input, dataDir: string): string {
  const { values, cwd, machine } = input;
  const data = realPath(dataDir);
  const hash = createHash('sha256').update(data).digest('hex').slice(0, 8);
  const runDir =
    values.runDir === null ? join(machine.tmpdir, `sallyport-${machine.uid}-${hash}`) : resolve(cwd, values.runDir);
  const problem =
    Buffer.byteLength(join(runDir, 'broker', 'api.sock')) >= socketPathBytes
      ? `it must be a path of at most ${socketPathBytes - '/broker/api.sock'.length - 1} bytes`
      : isInside(realPath(runDir), data) || isInside(data, realPath(runDir))
        ? `it must be outside the data directory ${dataDir}`
        : null;
  if (problem !== null) throw new SettingsError(`${nameOf(input, 'runDir')} is ${JSON.stringify(runDir)}; ${problem}`);
  return runDir;
}

const isInside = (path: string, directory: string) => !/^\.\.(\/|$)/.test(relative(directory, path));

/** The real path of what need not exist yet. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(realPath(parent), basename(path));
  }
}

function boundsOf(values: Values): Bounds {
  return {
    ...defaultBounds,
    promptChars: values.maxPromptChars,
    messageChars: values.maxMessageChars,
    systemPromptChars: values.maxSystemPromptChars,
    maxTurns: values.maxTurns,
    timeoutMaxSeconds: values.maxTimeoutSeconds,
    files: values.maxFiles,
    filesBytes: values.maxFilesBytes,
  };
}
