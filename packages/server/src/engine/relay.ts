import type { Clock } from './clock.ts';
import type { LiveLog, LiveLogs } from './live.ts';
import type { Bus, ConversationStore, Log, TurnStore } from './ports.ts';
import { askedText, asksChannel, channelOf, readAsked, readTold, toldText, type Asked } from './relay-messages.ts';
import { Speaker } from './relay-speaker.ts';
import { Tail, type Followed } from './relay-tail.ts';
import { keyOf } from './running.ts';

/** How often the store is asked what is new, and what nobody follows any more is forgotten, in milliseconds. */
const tickMs = 1000;
/** Ticks after which it is said again that a conversation is followed. */
const askEvery = 10;
/** Milliseconds for which it counts that somebody said so: three times of saying so. */
const interestMs = 3 * askEvery * tickMs;
/** Most conversations of which it is known that others follow them. */
const mostInterests = 100_000;
/** Most conversations in one message. */
const asksAtOnce = 100;

export interface RelayParts {
  readonly bus: Bus;
  readonly turns: Pick<TurnStore, 'read'>;
  readonly conversations: Pick<ConversationStore, 'heads'>;
  readonly clock: Clock;
  readonly logger: Log;
  readonly logs: LiveLogs;
  /** True while a turn of the conversation runs on this node. */
  readonly runsHere: (tenant: string, conversation: string) => boolean;
}

/**
 * Tells whoever follows a conversation here what goes on in it on another node, and the other nodes what goes on here, as
 * far as somebody follows it there. The bus brings text as it comes and says that there are events, which are read in the
 * store. What the bus loses is asked for again when that shows, and else found in the store within a second.
 */
export class Relay {
  readonly #parts: RelayParts;
  /** What is followed here. */
  readonly #tails = new Map<string, { readonly tail: Tail; readonly leave: () => void }>();
  /** What runs here and is followed elsewhere. */
  readonly #speakers = new Map<string, { readonly speaker: Speaker; readonly stop: () => void }>();
  /** Until when others follow a conversation, wherever it runs: those that said so last come last. */
  readonly #interests = new Map<string, number>();
  /** Tails that will be asked for at the end of this tick of the loop. */
  readonly #asking = new Set<Tail>();
  #timer: NodeJS.Timeout | undefined;
  #stops: (() => void)[] = [];
  #isBehind = false;

  constructor(parts: RelayParts) {
    this.#parts = parts;
  }

  /** Listens to other nodes from now on, until it is closed. */
  start(): void {
    const { bus } = this.#parts;
    const all = () => {
      for (const { tail } of this.#tails.values()) {
        tail.isAsked = false;
        this.#ask(tail);
      }
    };
    this.#stops = [bus.subscribe(asksChannel, (text) => this.#hearAsked(readAsked(text))), bus.onGap(all)];
    const tick = async () => {
      await this.tick();
      if (this.#timer) this.#timer = setTimeout(() => void tick(), tickMs).unref();
    };
    this.#timer = setTimeout(() => void tick(), tickMs).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const stop of this.#stops) stop();
    for (const { leave } of this.#tails.values()) leave();
    for (const { stop } of this.#speakers.values()) stop();
  }

  /** Keeps the moving end of a conversation up wherever it runs, until the given function is called, once. */
  follow(conversation: Followed, live: LiveLog): () => void {
    const { tenant, id } = conversation;
    const name = keyOf(tenant, id);
    const entry = this.#tails.get(name);
    // An end is that of all who follow it here; one of the same name may have begun since.
    if (entry) entry.tail.users += 1;
    const { tail, leave } = entry ?? this.#newTail(conversation, live);
    return () => {
      tail.users -= 1;
      if (tail.users === 0) leave();
    };
  }

  /** A turn begins to run here. */
  began(tenant: string, conversation: string): void {
    const name = keyOf(tenant, conversation);
    this.#speakers.get(name)?.stop();
    if (this.#interests.has(name)) this.#speak(tenant, conversation);
  }

  /** Forgets what nobody needs, and looks in the store for what has not come by the bus. Never rejects. */
  async tick(): Promise<void> {
    const now = this.#parts.clock.monotonic();
    for (const [name, until] of this.#interests) {
      if (until > now) break;
      this.#interests.delete(name);
    }
    for (const [name, { stop }] of this.#speakers) if (!this.#isWanted(name)) stop();
    const tails = [...this.#tails.values()].map(({ tail }) => tail).filter(({ runsHere }) => !runsHere);
    for (const tail of tails) {
      tail.isAsked = false;
      tail.askIn -= 1;
      if (tail.askIn < 0) this.#ask(tail);
    }
    await this.#look(tails);
  }

  #newTail(conversation: Followed, live: LiveLog) {
    const { bus, turns, runsHere } = this.#parts;
    const { tenant, id } = conversation;
    const onLoss = () => this.#ask(tail);
    const tail = new Tail({ turns, conversation, live, runsHere: () => runsHere(tenant, id), onLoss });
    const unsubscribe = bus.subscribe(channelOf(tenant, id), (text) => {
      const told = readTold(text);
      if (told) tail.hear(told);
    });
    const name = keyOf(tenant, id);
    const entry = {
      tail,
      leave: () => {
        unsubscribe();
        tail.close();
        this.#asking.delete(tail);
        if (this.#tails.get(name) === entry) this.#tails.delete(name);
      },
    };
    this.#tails.set(name, entry);
    this.#ask(tail);
    tail.askIn = 0; // what comes before the bus listens is lost
    return entry;
  }

  /** Asks for what is beyond what is known here, and says by it that somebody follows: at once, then with the next tick. */
  #ask(tail: Tail): void {
    if (tail.runsHere) return;
    tail.askIn = tail.isAsked ? 0 : askEvery;
    if (tail.isAsked) return;
    tail.isAsked = true;
    if (this.#asking.size === 0) setImmediate(() => this.#sendAsks());
    this.#asking.add(tail);
  }

  #sendAsks(): void {
    const asked = [...this.#asking].map(({ place }) => place);
    this.#asking.clear();
    for (let from = 0; from < asked.length; from += asksAtOnce) {
      this.#parts.bus.publish(asksChannel, askedText(asked.slice(from, from + asksAtOnce)));
    }
  }

  #hearAsked(asked: readonly Asked[]): void {
    const until = this.#parts.clock.monotonic() + interestMs;
    for (const one of asked) {
      const { tenant, conversation } = one;
      const name = keyOf(tenant, conversation);
      this.#interests.delete(name);
      this.#interests.set(name, until);
      if (this.#interests.size > mostInterests) this.#interests.delete(this.#interests.keys().next().value ?? '');
      if (!this.#parts.runsHere(tenant, conversation)) continue;
      if (!this.#speakers.has(name)) this.#speak(tenant, conversation);
      this.#speakers.get(name)?.speaker.answer(one);
    }
  }

  #isWanted(name: string): boolean {
    const [tenant, conversation] = JSON.parse(name) as [string, string];
    return this.#interests.has(name) && this.#parts.runsHere(tenant, conversation);
  }

  #speak(tenant: string, conversation: string): void {
    const { bus, logs } = this.#parts;
    const [name, channel] = [keyOf(tenant, conversation), channelOf(tenant, conversation)];
    const speaker = new Speaker(logs.acquire(tenant, conversation), (told) => bus.publish(channel, toldText(told)));
    const stop = () => {
      if (!this.#speakers.delete(name)) return;
      speaker.close();
      logs.release(tenant, conversation);
    };
    this.#speakers.set(name, { speaker, stop });
  }

  async #look(tails: readonly Tail[]): Promise<void> {
    const { conversations, logger } = this.#parts;
    const byTenant = Map.groupBy(tails, ({ tenant }) => tenant);
    try {
      for (const [tenant, followed] of byTenant) {
        const found = await conversations.heads(
          tenant,
          followed.map(({ id }) => id),
        );
        const heads = new Map(found.map((head) => [head.id, head]));
        for (const tail of followed) await tail.see(heads.get(tail.id) ?? null);
      }
      this.#isBehind = false;
    } catch (error) {
      if (!this.#isBehind)
        logger.warn({ err: error }, 'what is followed could not be looked at; it is looked at again');
      this.#isBehind = true;
    }
  }
}
