import { SallyportError } from './errors.ts';
import type { LiveLog } from './live.ts';
import type { ConversationHead, StoredConversation, TurnStore } from './ports.ts';
import type { Asked, Told } from './relay-messages.ts';

/** Events that are read at a time. */
const page = 200;
/** Most that is kept of what is told while the store is read. */
const mostHeld = 256;

/** A conversation as it stands when somebody begins to follow it. */
export type Followed = Pick<StoredConversation, 'tenant' | 'id' | 'sdkSession' | 'lastSeq'>;

export interface TailParts {
  readonly turns: Pick<TurnStore, 'read'>;
  readonly conversation: Followed;
  readonly live: LiveLog;
  /** True while a turn of it runs here: then nobody else has anything to tell of it. */
  readonly runsHere: () => boolean;
  /** Called when something was told that does not follow what is known. */
  readonly onLoss: () => void;
}

/** Feeds the moving end of a conversation that runs on another node, from the store and from what that node tells. */
export class Tail {
  readonly #parts: TailParts;
  /** How many follow it here. */
  users = 1;
  /** Ticks until it is asked for again. */
  askIn = 0;
  /** True when it was asked for since the last tick. */
  isAsked = false;
  #reading: Promise<void> | null = null;
  #held: Told[] = [];
  #closed = false;

  constructor(parts: TailParts) {
    this.#parts = parts;
    const { live, conversation, runsHere } = parts;
    if (!runsHere() && live.seq < conversation.lastSeq) live.standAt(conversation.lastSeq);
  }

  get tenant(): string {
    return this.#parts.conversation.tenant;
  }

  get id(): string {
    return this.#parts.conversation.id;
  }

  get runsHere(): boolean {
    return this.#parts.runsHere();
  }

  /** How far it is known here. */
  get place(): Asked {
    const { live } = this.#parts;
    const chars = live.openBlock()?.text.length ?? 0;
    return { tenant: this.tenant, conversation: this.id, seq: live.seq, chars };
  }

  close(): void {
    this.#closed = true;
    this.#held = [];
  }

  /** Takes what the node says that runs it. */
  hear(told: Told): void {
    if (this.#closed || this.runsHere) return;
    if (this.#reading === null && told.seq <= this.#parts.live.seq) return this.#take(told);
    if (this.#held.length < mostHeld) this.#held.push(told);
    // What does not come by the bus comes from the store; what the store cannot give is asked for again.
    this.catchUp().catch(() => undefined);
  }

  /** Takes what the store says of it; null: it is not there any more. Rejects when its events cannot be read. */
  async see(head: ConversationHead | null): Promise<void> {
    const { conversation, live } = this.#parts;
    if (this.#closed || this.runsHere) return;
    const isThere = head !== null && head.sdkSession === conversation.sdkSession && head.status !== 'gone';
    if (isThere && head.lastSeq > live.seq) await this.catchUp();
    if (!isThere || head.status === 'ended') live.end();
  }

  /** Reads what the store has beyond what is known here. Rejects when it cannot. */
  catchUp(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
      // What is still beyond it is of no use: it is not there, or could not be read.
      for (const told of this.#held.splice(0)) if (!this.#closed && !this.runsHere) this.#take(told);
    });
    return this.#reading;
  }

  async #read(): Promise<void> {
    const { turns, live } = this.#parts;
    for (;;) {
      const before = this.#held.length;
      const events = await turns.read(this.tenant, this.id, live.seq, page);
      if (this.#closed || this.runsHere) return;
      for (const event of events) if (event.seq > live.seq) live.event(event);
      // What was told before it was read was committed before too; what was told since may not have been among it.
      if (events.length < page && this.#held.slice(before).every(({ seq }) => seq <= live.seq)) return;
    }
  }

  #take(told: Told): void {
    const { live, onLoss } = this.#parts;
    if (told.seq !== live.seq) return; // of what is over
    if (told.kind === 'failed') live.fail(new SallyportError(told.code));
    const open = live.openBlock();
    if (told.kind === 'status' && !open && !this.#isKnown(told.status)) live.status(told.status);
    if (told.kind !== 'delta') return;
    const known = open?.text.length ?? 0;
    if (told.offset > known) return onLoss();
    if (open && open.block !== told.block) return;
    const text = told.text.slice(known - told.offset);
    if (text !== '') live.delta(told.block, text);
  }

  /** That somebody waits is told again to whoever comes late. */
  #isKnown(status: Extract<Told, { kind: 'status' }>['status']): boolean {
    const event = this.#parts.live.queued()?.item?.event;
    return event?.type === 'status' && status.status === 'queued' && event.place === status.place;
  }
}
