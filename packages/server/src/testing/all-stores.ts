import type { Stores } from '../stores/stores.ts';
import { approvalStoreContract } from './approval-store.ts';
import { auditStoreContract } from './audit-store.ts';
import { budgetStoreContract } from './budget-store.ts';
import { claimContract } from './claim-store.ts';
import type { MakeStore } from './contract.ts';
import { conversationStoreContract } from './conversation-store.ts';
import { imageStoreContract } from './image-store.ts';
import { jobOrderContract } from './job-order.ts';
import { jobStoreContract } from './job-store.ts';
import { keyStoreContract } from './key-store.ts';
import { nodeStoreContract } from './node-store.ts';
import { retentionContract } from './retention.ts';
import { stopStoreContract } from './stop-store.ts';
import { tenancyContract } from './tenancy.ts';
import { tenantStoreContract } from './tenant-store.ts';
import { ticketStoreContract } from './ticket-store.ts';
import { transcriptStoreContract } from './transcript-store.ts';
import { turnStatesContract } from './turn-states.ts';
import { turnStoreContract } from './turn-store.ts';
import { usageStoreContract } from './usage-store.ts';
import { webhookStoresContract } from './webhook-stores.ts';

/** Everything that is kept, over one database. */
export type KeptStores = Omit<Stores, 'close'>;

/** What the stores promise together, on whatever database. */
export function storeContracts(makeStores: MakeStore<KeptStores>): void {
  turnStoreContract(async (t) => (await makeStores(t)).turns);
  turnStatesContract(makeStores);
  claimContract(async (t) => (await makeStores(t)).turns);
  conversationStoreContract(makeStores);
  retentionContract(makeStores);
  approvalStoreContract(makeStores);
  imageStoreContract(makeStores);
  ticketStoreContract(async (t) => (await makeStores(t)).tickets);
  transcriptStoreContract(async (t) => (await makeStores(t)).transcripts);
  usageStoreContract(async (t) => (await makeStores(t)).usage);
  budgetStoreContract(makeStores);
  keyStoreContract(makeStores);
  stopStoreContract(makeStores);
  nodeStoreContract(makeStores);
  tenantStoreContract(makeStores);
  auditStoreContract(makeStores);
  webhookStoresContract(makeStores);
  jobStoreContract(makeStores);
  jobOrderContract(makeStores);
  tenancyContract(makeStores);
}
