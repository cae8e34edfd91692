import type { Clock } from '../engine/clock.ts';
import type {
  ApprovalStore,
  AuditStore,
  BudgetStore,
  ConversationStore,
  DeliveryStore,
  ImageStore,
  JobStore,
  KeyStore,
  NodeStore,
  StopStore,
  TenantStore,
  TicketStore,
  TranscriptStore,
  TurnStore,
  UsageStore,
  WebhookSecretStore,
} from '../engine/ports.ts';
import { createApprovalStore } from './approvals.ts';
import { createAuditStore } from './audit.ts';
import { createBudgetStore } from './budgets.ts';
import { createConversationStore } from './conversations.ts';
import { createDatabase, type Database } from './database.ts';
import { createImageStore } from './images.ts';
import { createJobStore } from './jobs.ts';
import { createKeyStore } from './keys.ts';
import { createNodeStore } from './nodes.ts';
import { takeDataDirectory } from './lock.ts';
import { openPostgres } from './postgres.ts';
import { openSqlite } from './sqlite.ts';
import { createStopStore } from './stops.ts';
import { createTenantStore } from './tenants.ts';
import { createTicketStore } from './tickets.ts';
import { createTranscriptStore } from './transcripts.ts';
import { createTurnStore } from './turns.ts';
import { createUsageStore } from './usage.ts';
import { createDeliveryStore, createWebhookSecretStore } from './webhooks.ts';

/** Everything that is kept. */
export interface Stores {
  readonly turns: TurnStore;
  readonly conversations: ConversationStore;
  readonly approvals: ApprovalStore;
  readonly images: ImageStore;
  readonly tickets: TicketStore;
  readonly transcripts: TranscriptStore;
  readonly usage: UsageStore;
  readonly keys: KeyStore;
  readonly tenants: TenantStore;
  readonly stops: StopStore;
  readonly budgets: BudgetStore;
  readonly jobs: JobStore;
  readonly audit: AuditStore;
  readonly nodes: NodeStore;
  readonly deliveries: DeliveryStore;
  readonly webhookSecrets: WebhookSecretStore;
  /** Waits for the writes that were begun, closes the database and gives the data directory free. */
  close(): Promise<void>;
}

export interface StoreOptions {
  /** Made with mode 0700 when missing. */
  readonly dataDir: string;
  /** Address of a Postgres database; null or not given: SQLite in the data directory. */
  readonly databaseUrl?: string | null;
  readonly clock: Clock;
}

/**
 * Opens the stores, in a data directory that this process alone may use from then on. Throws one readable line when
 * another server uses it, when it or the database cannot be used, or when the database was written by a newer version.
 */
export async function openStores({ dataDir, databaseUrl = null, clock }: StoreOptions): Promise<Stores> {
  const directory = takeDataDirectory(dataDir);
  try {
    const database =
      databaseUrl === null
        ? await createDatabase(openSqlite(directory.database))
        : await openPostgres({ url: databaseUrl, clock });
    return {
      ...storesOf(database, clock),
      async close() {
        try {
          await database.close();
        } finally {
          directory.release();
        }
      },
    };
  } catch (error) {
    directory.release();
    throw error;
  }
}

/** The stores over a database, which stays the caller's to close. */
export function storesOf(database: Database, clock: Clock): Omit<Stores, 'close'> {
  return {
    turns: createTurnStore(database, clock),
    conversations: createConversationStore(database),
    approvals: createApprovalStore(database),
    images: createImageStore(database),
    tickets: createTicketStore(database),
    transcripts: createTranscriptStore(database),
    usage: createUsageStore(database),
    keys: createKeyStore(database, clock),
    tenants: createTenantStore(database),
    stops: createStopStore(database),
    budgets: createBudgetStore(database),
    jobs: createJobStore(database),
    audit: createAuditStore(database),
    nodes: createNodeStore(database),
    deliveries: createDeliveryStore(database),
    webhookSecrets: createWebhookSecretStore(database),
  };
}
