/** All that the domain needs from outside. */
export * from './ports/approvals.ts';
export * from './ports/broker.ts';
export * from './ports/budgets.ts';
export * from './ports/bus.ts';
export * from './ports/cache.ts';
export * from './ports/guard.ts';
export * from './ports/jobs.ts';
export * from './ports/nodes.ts';
export * from './ports/records.ts';
export * from './ports/run.ts';
export * from './ports/store.ts';
export * from './ports/webhooks.ts';
