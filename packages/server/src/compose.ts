import { realpath } from 'node:fs/promises';
import { lookup } from 'node:dns/promises';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { loadPrices, type Prices } from './broker/prices.ts';
import { checkIsolation, type Check } from './claude/doctor.ts';
import { claudeExecutable } from './claude/executable.ts';
import { createJails, type Jails } from './claude/jail.ts';
import { createRunner } from './claude/runner.ts';
import { isProtected, prepareRunDirectory, removeRunDirectory } from './claude/slots.ts';
import { createWorkspaceFiles } from './claude/workspace-files.ts';
import { adminKey, type AdminKey } from './config/admin-key.ts';
import { configurationId, describeSettings } from './config/describe.ts';
import { secretsOf, type Settings } from './config/settings.ts';
import type { AdminParts } from './engine/admin.ts';
import { systemClock } from './engine/clock.ts';
import { createAdmin } from './engine/create-admin.ts';
import { createEngine } from './engine/create-engine.ts';
import type { OwnEngine } from './engine/engine.ts';
import { createJournal } from './engine/journal.ts';
import { createKeyRing, type KeyInput, type KeyRing } from './engine/keys.ts';
import type { Lease } from './engine/nodes.ts';
import { usualShape } from './engine/policy.ts';
import { Stops } from './engine/stops.ts';
import { createTickets } from './engine/tickets.ts';
import type { Log, ModelCall, Runner } from './engine/ports.ts';
import { createApp } from './http/app.ts';
import { closeApp } from './http/close.ts';
import { createLogger } from './observe/logger.ts';
import { openStores, type Stores } from './stores/stores.ts';
import { startBroker } from './compose-broker.ts';
import { startCoordination, type Coordination, type CoordinationOptions } from './compose-coordination.ts';
import { dataDirectories, leaseOf } from './compose-nodes.ts';
import { composeJobs } from './compose-jobs.ts';
import { composeWebhooks } from './compose-webhooks.ts';
import { healthOf } from './compose-health.ts';
import { version } from './version.ts';

export { chainStart, verifyChain, type ChainLink } from './engine/audit-chain.ts';

/** What this machine has and lacks for a jail, each with what to do. */
export function examineMachine(settings: Settings): Promise<Check[]> {
  return checkIsolation({ runDir: settings.runDir, claudeBinary: claudeExecutable() });
}

/** A running service. */
export interface Sallyport {
  /** Where it answers, without a slash at the end. */
  readonly url: string;
  readonly settings: Settings;
  /** The key that the service made for itself; null when keys are configured. */
  readonly adminKey: AdminKey | null;
  readonly jailed: boolean;
  /** Why there is no jail. */
  readonly problems: readonly string[];
  /** Processes of Claude Code that work for a turn or a conversation. */
  processes(): readonly { readonly id: string; readonly pid: number }[];
  /** Takes no more work, ends what runs, and resolves when nothing of the service is left. */
  close(): Promise<void>;
}

export interface ComposeOptions {
  /** Where log lines go; default: standard output. */
  readonly logTo?: { write(line: string): unknown };
  /** Stands between the service and its stores, for tests of their failures. */
  readonly stores?: (stores: Stores) => Stores;
  /** What bounds the work with Redis, for tests. */
  readonly redisBounds?: CoordinationOptions['bounds'];
}

/** Takes things apart in the reverse order of their making. */
class Teardown {
  readonly #steps: (() => Promise<unknown>)[] = [];

  add(step: () => Promise<unknown>): void {
    this.#steps.unshift(step);
  }

  /** Runs every step, also after one failed; then throws the first failure. */
  async run(): Promise<void> {
    const failures: unknown[] = [];
    for (const step of this.#steps.splice(0)) await step().catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw failures[0];
  }
}

const tenant = 'default';

function keysOf(settings: Settings, own: AdminKey | null): KeyInput[] {
  const keys: KeyInput[] = settings.userKeys.map(({ name, secret }) => ({ name, secret, tenant, role: 'user' }));
  if (settings.masterKey !== null) keys.push({ name: 'master', secret: settings.masterKey, tenant, role: 'admin' });
  if (own) keys.push({ name: 'admin', secret: own.secret, tenant, role: 'admin' });
  return keys;
}

/** Without a jail the service must not be reachable from elsewhere, unless the operator said so. */
function refuseExposure(settings: Settings, jails: Jails): void {
  if (jails.isolation.jailed || settings.loopback || settings.isolation === 'none') return;
  const why = jails.isolation.problems.join(' ');
  throw new Error(`without a jail the service listens on loopback only (SALLYPORT_HOST is ${settings.host}): ${why}`);
}

/**
 * Puts the service together and starts it. Rejects with an error of one readable line when it cannot start; nothing of
 * it is left then.
 */
export async function createSallyport(settings: Settings, options: ComposeOptions = {}): Promise<Sallyport> {
  const teardown = new Teardown();
  try {
    return await start(settings, options, teardown);
  } catch (error) {
    await teardown.run().catch(() => undefined);
    throw error;
  }
}

/** Memory of a process of Claude Code from which on it is not used again: it starts at some 250 MB, and grows. */
const processBytes = 350 * 2 ** 20;

/** The part that runs Claude Code: jails, broker and runner. */
async function startRunner(settings: Settings, stores: Stores, logger: Log, teardown: Teardown) {
  const { maxProcesses, maxWaiting } = settings;
  const run = await prepareRunDirectory(settings.runDir);
  teardown.add(() => removeRunDirectory(run.path));
  const { dataDir, keptDir, keptPlace } = await dataDirectories(settings, stores);
  const jails = await createJails({
    setting: settings.isolation,
    runDir: run.path,
    hidden: [dataDir, keptDir],
    keptDir,
    keptPlace,
    brokerSocket: run.brokerSocket,
    claudeBinary: claudeExecutable(),
    clock: systemClock,
    log: logger,
  });
  teardown.add(() => jails.close());
  refuseExposure(settings, jails);
  const prices = loadPrices(settings.prices);
  const record = (call: ModelCall) => stores.usage.record(call);
  const broker = await startBroker(settings, { socketPath: run.brokerSocket, prices, record, log: logger }, teardown);
  const { transcripts } = stores;
  const runner = createRunner({
    broker,
    jails,
    transcripts,
    files: createWorkspaceFiles({ keptDir, keptPlace }),
    clock: systemClock,
    log: logger,
    maxProcesses,
    maxWaiting,
    reuse: { sessions: settings.processUses, memoryBytes: processBytes },
    spares: { count: settings.spares, shapes: [{ kind: 'warm', ...usualShape(settings.defaultModel) }] },
  });
  teardown.add(() => runner.close());
  return { jails, broker, runner, prices, keptPlace, ownDirectories: [dataDir, keptDir, await realpath(run.path)] };
}

/** The part that says who may do what, and what is stopped. */
async function startGuard(configured: readonly KeyInput[], stores: Stores, logger: Log, teardown: Teardown) {
  const clock = systemClock;
  const keyRing = createKeyRing({ configured, keys: stores.keys, clock, logger });
  teardown.add(async () => keyRing.close());
  const stops = new Stops({ stops: stores.stops, logger, clock });
  teardown.add(async () => stops.close());
  await stops.start();
  return { keyRing, stops };
}

function adminOf(
  settings: Settings,
  stores: Stores,
  parts: Pick<AdminParts, 'stopsHeld' | 'configured' | 'runner' | 'broker'>,
) {
  const items = describeSettings(settings).map(({ variable, value, source }) => ({ variable, value, source }));
  const inForce = { items, configuration: configurationId(settings, version) };
  const configured = parts.configured.map(({ tenant, name, role }) => ({ tenant, name, role })); // without the secrets
  return createAdmin({ ...stores, ...parts, configured, clock: systemClock, settings: inForce });
}

/** What the engine takes from the other parts. */
interface EngineNeeds {
  readonly keyRing: KeyRing;
  readonly stops: Stops;
  readonly lease: Lease;
  readonly logger: Log;
  readonly runner: Runner;
  readonly prices: Prices;
  readonly jailed: boolean;
  readonly ownDirectories: readonly string[];
  readonly coordination: Coordination;
}

function startEngine(settings: Settings, stores: Stores, needs: EngineNeeds) {
  const { logger, runner, prices, jailed, ownDirectories, keyRing, stops, lease, coordination } = needs;
  const { models, defaultModel, workspaceRoots } = settings;
  const { conversationTtlSeconds, retentionDays, approvalHoldSeconds, approvalTtlSeconds } = settings;
  const { cacheTtlSeconds } = settings;
  return createEngine({
    ...stores,
    stops,
    lease,
    keyRing,
    configuration: configurationId(settings, version),
    workspaceRoots,
    conversationTtlSeconds,
    retentionDays,
    approvalHoldSeconds,
    approvalTtlSeconds,
    responseCache: coordination.responseCache,
    bus: coordination.bus,
    cacheTtlSeconds,
    runner,
    logger,
    clock: systemClock,
    policy: { models, defaultModel, openToolsUnasked: jailed || settings.isolation === 'none' },
    isPriced: (model) => prices.of(model) !== null,
    isProtected: (path) => isProtected(path, ownDirectories),
  });
}

/** Lets what runs go on to its end for so long. A turn may have lost its client, so that no open answer waits for it. */
async function drain(parts: Pick<ReturnType<typeof composeJobs>, 'worker'> & Serving, ms: number): Promise<void> {
  const { engine, worker, app } = parts;
  worker.drain();
  const drained = Promise.race([engine.drain(), delay(ms, undefined, { ref: false })]);
  await Promise.all([drained, closeApp(app, ms)]);
}

/** What takes requests, and what answers them. */
interface Serving {
  readonly engine: OwnEngine;
  readonly app: Awaited<ReturnType<typeof createApp>>;
}

async function start(settings: Settings, options: ComposeOptions, teardown: Teardown): Promise<Sallyport> {
  const opened = await openStores({ dataDir: settings.dataDir, databaseUrl: settings.databaseUrl, clock: systemClock });
  teardown.add(() => opened.close());
  const stores = options.stores?.(opened) ?? opened;
  const keyless = settings.masterKey === null && settings.userKeys.length === 0;
  const own = keyless ? await adminKey(settings.dataDir) : null;
  const logger = createLogger({
    level: settings.logLevel,
    secrets: [...secretsOf(settings), ...(own ? [own.secret] : [])],
    ...(options.logTo && { destination: options.logTo }),
  });
  for (const warning of settings.warnings) logger.warn(warning);
  const lease = leaseOf(settings, stores, logger);
  const nodes = () => lease.count;
  const coordination = await startCoordination(settings, { logger, nodes, bounds: options.redisBounds ?? {} });
  teardown.add(async () => coordination.close());
  const running = await startRunner(settings, stores, logger, teardown);
  const { jails, broker, runner, prices, keptPlace, ownDirectories } = running;
  const { jailed, problems } = jails.isolation;
  const configured = keysOf(settings, own);
  const guard = await startGuard(configured, stores, logger, teardown);
  const needs = { ...guard, lease, logger, runner, prices, jailed, ownDirectories, coordination };
  const engine = await startEngine(settings, stores, needs);
  const webhooks = composeWebhooks(settings, stores, logger);
  const { jobs, worker } = composeJobs(settings, stores, { ...guard, engine, webhooks, lease, logger });
  teardown.add(() => worker.close());
  teardown.add(() => engine.close());
  const app = await createApp({
    ...settings,
    version,
    engine,
    keys: guard.keyRing,
    admin: adminOf(settings, stores, { stopsHeld: guard.stops, configured, runner, broker }),
    webhooks: webhooks.admin,
    jobs,
    journal: createJournal({ audit: stores.audit, clock: systemClock }),
    tickets: createTickets(stores.tickets, systemClock),
    limiters: coordination.limiters,
    clock: systemClock,
    logger,
    ...healthOf({ stores, runner, broker, coordination, lease, keptPlace }),
  });
  teardown.add(() => drain({ engine, worker, app }, settings.drainSeconds * 1000));
  teardown.add(() => webhooks.close());
  webhooks.start();
  worker.start();
  // By name Node may open a second server, for the other kind of address, that the limits do not reach.
  const { address: host } = await lookup(settings.host);
  await app.listen({ host, port: settings.port });
  const { address, port } = app.server.address() as AddressInfo;
  return {
    url: `http://${address.includes(':') ? `[${address}]` : address}:${port}`,
    settings,
    adminKey: own,
    jailed,
    problems,
    processes: () => runner.processes().filter(({ state }) => state !== 'cleared' && state !== 'spare'),
    close: () => teardown.run(),
  };
}
