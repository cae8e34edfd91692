import type { BrokerGrant } from '../../packages/server/src/engine/ports.ts';

/** What the broker lets a turn of a benchmark do: all that it wants, with no budget to look up. */
export const openGrant: BrokerGrant = {
  ref: { tenant: 'bench', conversation: 'bench', turn: 'bench', epoch: 1 },
  key: 'bench',
  model: 'sallyport-simulator',
  budgetUsd: null,
  mayCall: async () => 'yes',
  maxCalls: 1_000_000,
  hasTools: true,
  singleToolCalls: false,
  before: { calls: 0, spentUsd: 0 },
  cleared: false,
  ready: Promise.resolve(),
  onRetry: () => {},
};
