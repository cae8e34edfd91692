import type { Bounds } from '@sallyport/protocol';
import type { Source } from './given.ts';
import type { SettingKey } from './table.ts';
import type { UpstreamEntry } from './upstreams.ts';

/** The settings in force. */
export interface Settings {
  readonly host: string;
  /** True when `host` is reachable from this machine only. */
  readonly loopback: boolean;
  /** 0: any free one. */
  readonly port: number;
  /** Absolute. It may not exist yet. */
  readonly dataDir: string;
  /** Absolute, outside the data directory, short enough for the sockets in it. It may not exist yet. */
  readonly runDir: string;
  /** Null: SQLite in the data directory. */
  readonly databaseUrl: string | null;
  /** How long a node of several may be silent before others take over. */
  readonly leaseSeconds: number;
  /** Null: `workspaces` in the data directory. */
  readonly workspacesDir: string | null;
  /** Null: this process shares nothing with others. */
  readonly redisUrl: string | null;
  readonly upstream: 'anthropic' | 'simulator';
  readonly anthropicApiKey: string | null;
  readonly anthropicBaseUrl: string;
  /** Empty with the simulator. */
  readonly upstreams: readonly UpstreamEntry[];
  /** Reads them again, as their files are now; null when none of it is in a file. Throws `SettingsError`. */
  readonly rereadUpstreams: (() => readonly UpstreamEntry[]) | null;
  readonly upstreamMaxConcurrent: number;
  /** Of all calls. */
  readonly upstreamRetryPercent: number;
  /** 0: no upstream is left alone. */
  readonly upstreamBreakerCalls: number;
  readonly upstreamFirstByteSeconds: number;
  readonly upstreamSilenceSeconds: number;
  /** Holds `defaultModel`. */
  readonly models: readonly string[];
  readonly defaultModel: string;
  /** Absolute path of a file with prices. */
  readonly prices: string | null;
  /** The admin key. */
  readonly masterKey: string | null;
  /** No two keys have the same secret. */
  readonly userKeys: readonly { readonly name: string; readonly secret: string }[];
  /** Real paths of directories. */
  readonly workspaceRoots: readonly string[];
  readonly isolation: 'auto' | 'bwrap' | 'none';
  readonly corsOrigins: readonly string[];
  readonly publicHosts: readonly string[];
  readonly trustedProxies: readonly string[];
  /** Of a key in any minute; 0: no limit, as for the next two. */
  readonly requestsPerMinute: number;
  /** Of a key in any hour. */
  readonly requestsPerHour: number;
  /** Of a key in any 10 seconds. */
  readonly burstSize: number;
  readonly maxOpenPerKey: number;
  readonly maxProcesses: number;
  readonly maxWaiting: number;
  readonly processUses: number;
  readonly spares: number;
  readonly maxBodyBytes: number;
  readonly conversationTtlSeconds: number;
  readonly retentionDays: number;
  readonly approvalHoldSeconds: number;
  readonly approvalTtlSeconds: number;
  /** 0: answers are not stored. */
  readonly cacheTtlSeconds: number;
  readonly cacheBytes: number;
  readonly drainSeconds: number;
  /** 0: this server runs none. */
  readonly jobsAtOnce: number;
  /** 0: no bound. */
  readonly jobsPerTenant: number;
  readonly maxQueuedJobs: number;
  /** IP addresses, or ranges as `10.0.0.0/8`. */
  readonly webhookPrivateNetworks: readonly string[];
  /** Null: the service makes one for itself. */
  readonly secretKey: string | null;
  readonly logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
  readonly bounds: Bounds;
  /** One line each: what was given and has no effect. */
  readonly warnings: readonly string[];
  readonly sources: Readonly<Record<SettingKey, Source>>;
}

/** What defaults are computed from. */
export interface Machine {
  readonly cores: number;
  readonly memoryBytes: number;
  readonly uid: number;
  readonly tmpdir: string;
}
