import { setTimeout as sleep } from 'node:timers/promises';
import type { ComposeOptions } from '@sallyport/server';

type Stores = Parameters<NonNullable<ComposeOptions['stores']>>[0];

/** Where a store fails: at a method, or at `append` of an event of that type. */
export type Point =
  | 'accept'
  | 'accept_next'
  | 'begin'
  | 'count'
  | 'text'
  | 'tool_start'
  | 'tool_end'
  | 'tool_denied'
  | 'approval_decided'
  | 'request'
  | 'image'
  | 'finish'
  | 'read'
  | 'usage'
  | 'transcript';

/** How: at once; after a while; at once for want of space; or after the work was done, so that only the word of it is lost. */
export const ways = ['reject', 'hang', 'full', 'lost'] as const;
export type Way = (typeof ways)[number];

/** How the stores fail for one run. */
export interface Plan {
  readonly at: Point;
  readonly way: Way;
  /** How often they do; default always. */
  readonly times?: number;
  /** How often it goes well before; default never. */
  readonly after?: number;
}

/** The plan as the `metadata` of a request, by which the stores know the run. */
export const metadataOf = (plan: Plan): Record<string, string> => ({ plan: JSON.stringify(plan) });

const hangMs = 400;

/** Stores that fail for the runs that have a plan, each as it says, and for no other. */
export function failingStores(stores: Stores): Stores {
  const { turns, approvals, images, usage, transcripts } = stores;
  const plans = new Map<string, { readonly plan: Plan; seen: number }>();

  async function guard<T>(id: string, point: string, work: () => Promise<T>): Promise<T> {
    const known = plans.get(id);
    if (known?.plan.at !== point) return await work();
    const { way, times = Infinity, after = 0 } = known.plan;
    known.seen += 1;
    if (known.seen <= after || known.seen > after + times) return await work();
    if (way === 'hang') await sleep(hangMs);
    if (way === 'lost') await work();
    throw way === 'full' ? Object.assign(new Error('no space'), { code: 'ENOSPC' }) : new Error('the store failed');
  }

  return {
    ...stores,
    turns: {
      ...turns,
      accept(accepted) {
        const { id, sdkSession, metadata } = accepted.conversation;
        if (metadata['plan'] !== undefined) {
          const known = { plan: JSON.parse(metadata['plan']) as Plan, seen: 0 };
          for (const each of [id, sdkSession]) plans.set(each, known);
        }
        return guard(id, 'accept', () => turns.accept(accepted));
      },
      begin: (ref, at) => guard(ref.conversation, 'begin', () => turns.begin(ref, at)),
      acceptNext: (next) => guard(next.conversation, 'accept_next', () => turns.acceptNext(next)),
      append: (ref, at, events, state, audit) =>
        guard(ref.conversation, events[0]?.type ?? '', () => turns.append(ref, at, events, state, audit)),
      count: (ref, counters) => guard(ref.conversation, 'count', () => turns.count(ref, counters)),
      finish: (ref, end) => guard(ref.conversation, 'finish', () => turns.finish(ref, end)),
      read: (tenant, conversation, after, limit) =>
        guard(conversation, 'read', () => turns.read(tenant, conversation, after, limit)),
    },
    approvals: {
      ...approvals,
      request: (ref, approval, event) =>
        guard(ref.conversation, 'request', () => approvals.request(ref, approval, event)),
    },
    images: {
      ...images,
      before: (ref, path, content) => guard(ref.conversation, 'image', () => images.before(ref, path, content)),
    },
    usage: {
      ...usage,
      record: (call) => guard(call.ref.conversation, 'usage', () => usage.record(call)),
    },
    transcripts: {
      ...transcripts,
      append: (key, entries) => guard(key.session, 'transcript', () => transcripts.append(key, entries)),
    },
  };
}
