import type { Ending, LiveLog, Step, Subscriber } from './live.ts';
import { SallyportError } from './errors.ts';
import { statusOf, type Asked, type Told } from './relay-messages.ts';

type Piece = Extract<Told, { kind: 'delta' }>;

/** Tells other nodes what goes on in a conversation here, until it is closed. Pieces of one tick are told together. */
export class Speaker implements Subscriber {
  readonly #live: LiveLog;
  readonly #tell: (told: Told) => void;
  /** What is not told yet. */
  #piece: Piece | null = null;
  #closed = false;

  constructor(live: LiveLog, tell: (told: Told) => void) {
    this.#live = live;
    this.#tell = tell;
    live.subscribe(this, true);
  }

  /** Tells what somebody lacks. */
  answer({ seq, chars }: Pick<Asked, 'seq' | 'chars'>): void {
    if (this.#closed) return;
    const own = this.#live.seq;
    if (own > seq) this.#tell({ kind: 'log', seq: own });
    const open = this.#live.openBlock();
    const offset = own === seq ? chars : 0;
    if (open && open.text.length > offset) {
      this.#tell({ kind: 'delta', seq: open.seq, block: open.block, offset, text: open.text.slice(offset) });
    }
    // Told after text, it would look as if no `restart` could withdraw that any more.
    const queued = open ? null : this.#live.queued();
    if (queued) this.#take(queued);
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#live.unsubscribe(this);
  }

  told(step: Step): void {
    this.#take(step);
  }

  ended(ending: Ending): void {
    this.#take(ending);
  }

  #take(item: Step | Ending): void {
    if (this.#closed) return;
    if ('delta' in item) return this.#add({ kind: 'delta', seq: item.from.seq, ...item.delta });
    this.#flush();
    if ('event' in item) this.#tell({ kind: 'log', seq: item.event.seq });
    else if ('status' in item) {
      const status = statusOf(item.item?.event);
      if (status) this.#tell({ kind: 'status', seq: item.from.seq, status });
    } else if ('failed' in item) {
      this.#tell({ kind: 'failed', seq: this.#live.seq, code: SallyportError.from(item.failed).code });
      this.close();
    } else this.close();
  }

  #add(piece: Piece): void {
    const before = this.#piece;
    const end = before && before.offset + before.text.length;
    if (before?.seq === piece.seq && before.block === piece.block && end === piece.offset) {
      this.#piece = { ...before, text: before.text + piece.text };
      return;
    }
    if (before) this.#tell(before);
    else setImmediate(() => this.#flush());
    this.#piece = piece;
  }

  #flush(): void {
    if (this.#piece && !this.#closed) this.#tell(this.#piece);
    this.#piece = null;
  }
}
