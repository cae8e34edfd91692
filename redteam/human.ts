import { setTimeout as delay } from 'node:timers/promises';
import { call } from '../test/support/approvals.ts';

/** An approval as the inbox shows it. */
export interface Asked {
  readonly approval_id: string;
  readonly session_id: string;
  readonly tool: string;
  readonly kind: string;
  readonly input: Readonly<Record<string, unknown>>;
}

export type Answer = { readonly decision: 'allow' | 'deny'; readonly remember?: 'conversation' } | 'leave';

/** The human who is asked. Allows nothing, unless a conversation was given another mind. */
export class Human {
  /** All that was asked, in order. */
  readonly asked: Asked[] = [];
  readonly #service: { url: string };
  readonly #minds = new Map<string, (asked: Asked) => Answer | Promise<Answer>>();
  readonly #seen = new Set<string>();
  readonly #over = new AbortController();
  readonly #looking: Promise<void>;

  constructor(service: { url: string }) {
    this.#service = service;
    this.#looking = this.#look();
  }

  /** How the human decides in one conversation. */
  mind(conversation: string, decide: (asked: Asked) => Answer | Promise<Answer>): void {
    this.#minds.set(conversation, decide);
  }

  async close(): Promise<void> {
    this.#over.abort();
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      const { body } = await call(this.#service, 'GET', 'approvals?status=pending').catch(() => ({ body: {} }));
      const items = ((body as Record<string, unknown>)['items'] ?? []) as Asked[];
      for (const asked of items.filter(({ approval_id: id }) => !this.#seen.has(id))) {
        this.#seen.add(asked.approval_id);
        this.asked.push(asked);
        const answer = (await this.#minds.get(asked.session_id)?.(asked)) ?? { decision: 'deny' };
        if (answer === 'leave') continue;
        await call(this.#service, 'POST', `approvals/${asked.approval_id}`, answer).catch(() => undefined);
      }
      await delay(30, undefined, { signal }).catch(() => undefined);
    }
  }
}
