import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { startOfLog, type LogEventBody, type StreamItem } from '@sallyport/protocol';
import { anEnd } from '../testing/turns.ts';
import { follow } from './follow.ts';
import { LiveLog } from './live.ts';
import { collect, goesOn, joined, MemoryLog, soon } from './log-support.ts';
import { Hub, RelayNode, standing } from './relay-support.ts';
import type { TurnLog } from './turn-log.ts';

const names = { tenant: 'default', conversation: 'conv-1' };

const spoken = fc.record({
  kind: fc.constantFrom('text' as const, 'thinking' as const),
  pieces: fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '😀', '\ud83d', 'é'), minLength: 1, maxLength: 5 }), {
    minLength: 1,
    maxLength: 8,
  }),
  /** Pieces that are streamed; the rest comes with the event. */
  streamed: fc.nat(8),
  /** Rounds of rest after a piece. */
  rests: fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }),
  fate: fc.constantFrom('ends', 'ends', 'is cut', 'is cut and said again'),
});
const act = fc.oneof(
  { weight: 6, arbitrary: fc.record({ act: fc.constant('say' as const), spoken }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('event' as const) }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('status' as const), place: fc.nat(2) }) },
  { weight: 3, arbitrary: fc.record({ act: fc.constant('rest' as const), rounds: fc.nat(8) }) },
  { weight: 3, arbitrary: fc.record({ act: fc.constant('tick' as const) }) },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('gap' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ act: fc.constant('burst' as const), pieces: fc.integer({ min: 505, max: 520 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      act: fc.constant('move' as const),
      to: fc.nat(2),
      inBlock: fc.boolean(),
      frozen: fc.boolean(),
    }),
  },
);
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;

/** A reader at a node that leaves after so many items, each time, for another node, and rests after each item. */
const watcher = fc.record({
  stays: fc.array(fc.record({ at: fc.nat(2), items: fc.integer({ min: 1, max: 9 }) }), { minLength: 1, maxLength: 4 }),
  rests: fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }),
});
type Watcher = typeof watcher extends fc.Arbitrary<infer T> ? T : never;

/** Three nodes, of which one runs the turn, and sometimes the next one goes on with it. */
class Story {
  readonly store = new MemoryLog();
  readonly hub = new Hub();
  readonly nodes: readonly RelayNode[];
  #owner = 0;
  #ref = this.store.takeOver();
  #log: TurnLog;
  /** The latest blocks, which a restart withdraws. */
  #span: LogEventBody[] = [];

  constructor(pauses: readonly number[], losses: readonly boolean[]) {
    let [writes, sent] = [0, 0];
    this.store.pause = async () => {
      for (let left = pauses[(writes += 1) % pauses.length] ?? 0; left > 0; left -= 1) await soon();
    };
    this.hub.loses = () => losses[(sent += 1) % losses.length] ?? false;
    const common = { hub: this.hub, turns: this.store, heads: async () => [this.head] };
    this.nodes = [0, 1, 2].map(() => new RelayNode(common));
    this.#log = this.node.run(this.#ref).log;
  }

  get node(): RelayNode {
    return this.nodes[this.#owner]!;
  }

  /** How the conversation stands. */
  get head() {
    const { events } = this.store;
    return { tenant: 'default', id: 'conv-1', sdkSession: 's', status: 'running' as const, lastSeq: events.length };
  }

  async tick(): Promise<void> {
    for (const { relay } of this.nodes) await relay.tick();
  }

  async play(acts: readonly Act[]): Promise<void> {
    await this.#log.begin();
    for (const one of acts) {
      if (one.act === 'say') await this.#say(one.spoken);
      else if (one.act === 'event') this.#event();
      else if (one.act === 'status')
        this.#log.status(one.place === 0 ? { status: 'running' } : { status: 'queued', place: one.place });
      else if (one.act === 'rest') for (let left = one.rounds; left > 0; left -= 1) await soon();
      else if (one.act === 'tick') await this.tick();
      else if (one.act === 'gap') this.hub.gap();
      else if (one.act === 'burst') this.#burst(one.pieces);
      else await this.#move(one);
    }
    await this.#log.finish(anEnd);
  }

  /** The turn runs nowhere any more. */
  end(): void {
    this.node.rest(this.#ref);
    for (const { relay } of this.nodes) relay.close();
  }

  async #say({ kind, pieces, streamed, rests, fate }: (Act & { act: 'say' })['spoken']): Promise<void> {
    for (const [index, piece] of pieces.slice(0, streamed).entries()) {
      this.#log.delta(kind, piece);
      for (let left = rests[index % rests.length] ?? 0; left > 0; left -= 1) await soon();
    }
    if (streamed > 0 && fate.startsWith('is cut')) {
      for (const body of [{ type: 'restart' as const }, ...this.#span]) void this.#log.append(body);
    }
    if (fate === 'is cut') return;
    const whole = pieces.join('');
    const block: LogEventBody =
      kind === 'text' ? { type: kind, message_id: 'm', text: whole } : { type: kind, message_id: 'm', thinking: whole };
    this.#span.push(block);
    void this.#log.append(block);
  }

  #event(): void {
    this.#span = [];
    void this.#log.append({ type: 'tool_end', tool_use_id: 'a', ok: true, summary: '' });
  }

  #burst(pieces: number): void {
    for (let left = pieces; left > 0; left -= 1) this.#log.delta('text', 'x');
    void this.#log.append({ type: 'text', message_id: 'm', text: 'x'.repeat(pieces) });
    this.#event();
  }

  /** Another node, or the same one anew, goes on; the one before may say something that nobody will ever store. */
  async #move({ to, inBlock, frozen }: Act & { act: 'move' }): Promise<void> {
    const before = { node: this.node, log: this.#log, ref: this.#ref };
    if (inBlock) before.log.delta('text', 'never stored');
    if (inBlock) await soon();
    await before.log.count({ batches: 0, activeMs: 0 }); // what it was given is stored
    this.#ref = this.store.takeOver();
    const isSame = this.nodes[to] === before.node;
    const leave = () => {
      before.node.rest(before.ref);
      before.log.live.end();
    };
    if (!frozen || isSame) leave();
    this.#owner = to;
    this.#log = this.node.run(this.#ref).log;
    await this.#log.begin();
    await this.#log.recover([{ type: 'restart' }, ...this.#span]);
    if (!frozen || isSame) return;
    before.log.delta('text', 'nor this');
    await soon();
    leave();
  }
}

/** Reads to the result, leaving now and then and coming back, to some node, with the last cursor. */
async function watch(story: Story, { stays, rests }: Watcher): Promise<StreamItem[]> {
  const items: StreamItem[] = [];
  for (let visit = 0; ; visit += 1) {
    const { at, items: most } = stays[visit % stays.length]!;
    let left = most;
    for await (const item of story.nodes[at]!.read(story.head, items.at(-1)?.cursor ?? startOfLog)) {
      items.push(item);
      if (item.event.type === 'result') return items;
      for (let rounds = rests[items.length % rests.length] ?? 0; rounds > 0; rounds -= 1) await soon();
      if ((left -= 1) === 0) break;
    }
    await soon();
  }
}

async function check(
  acts: readonly Act[],
  watchers: readonly Watcher[],
  writes: readonly number[],
  losses: readonly boolean[],
) {
  const story = new Story(writes, losses);
  const faithful = [0, 1, 2].map((at) => ({ stays: [{ at, items: Infinity }], rests: [0] }));
  let read = 0;
  const reading = [...faithful, ...watchers].map(async (one) => {
    const items = await watch(story, one);
    read += 1;
    return items;
  });
  await story.play(acts);
  while (read < reading.length) {
    for (let left = 20; left > 0; left -= 1) await soon();
    await story.tick();
  }
  const answer = standing(story.store.events);
  for (const items of await Promise.all(reading)) {
    assert.ok(goesOn(items), 'cursors go on');
    assert.deepEqual(joined(items), answer);
    assert.equal(items.filter(({ event }) => event.type === 'result').length, 1);
    const types = items.map(({ event }) => event.type).filter((type) => type === 'tool_end' || type === 'restart');
    const stored = story.store.events
      .map(({ body }) => body.type)
      .filter((type) => type === 'tool_end' || type === 'restart');
    assert.deepEqual(types, stored, 'every event once');
    for (let cut = 1; cut < items.length; cut += items.length > 100 ? 61 : 1) {
      const seen = items.slice(0, cut);
      const rest = { store: story.store, ...names, live: new LiveLog(), wait: false, isLast: () => false };
      const all = [...seen, ...(await collect(follow(rest, seen.at(-1)!.cursor)))];
      assert.ok(goesOn(all));
      assert.deepEqual(joined(all), answer, `cut after ${cut}`);
    }
  }
  story.end();
}

const pauses = fc.array(fc.nat(3), { minLength: 1, maxLength: 6 });
const runs = (context: TestContext, losses: fc.Arbitrary<boolean[]>, numRuns: number) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const acts = fc.array(act, { maxLength: 10 });
  const watchers = fc.array(watcher, { minLength: 2, maxLength: 2 });
  return fc.assert(fc.asyncProperty(acts, watchers, pauses, losses, check), { numRuns });
};

test('whoever follows a turn of another node has the answer once, whatever messages are lost', async (context) => {
  await runs(context, fc.array(fc.boolean(), { minLength: 1, maxLength: 12 }), 200);
});

test('and also when all of them are, or none is', async (context) => {
  await runs(context, fc.constantFrom([true], [false]), 80);
});
