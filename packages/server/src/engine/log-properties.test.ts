import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { startOfLog, type LogEvent, type LogEventBody, type StreamItem } from '@sallyport/protocol';
import { anEnd } from '../testing/turns.ts';
import { collect, goesOn, joined, MemoryLog, Side, soon } from './log-support.ts';

type Block = Extract<LogEventBody, { type: 'text' | 'thinking' }>;

/** What comes of an event: it is recorded, or committed by somebody else, or that commits none. */
const event = fc.constantFrom('recorded', 'committed', 'nothing');
const spoken = fc.record({
  kind: fc.constantFrom('text' as const, 'thinking' as const),
  whole: fc.string({ unit: fc.constantFrom('a', 'b', '😀', '\n', 'é'), minLength: 1, maxLength: 12 }),
  /** Where its pieces begin, in UTF-16 units: between the halves of a character too. */
  cuts: fc.array(fc.nat(24), { maxLength: 5 }),
  /** Pieces that are streamed. */
  streamed: fc.nat(6),
  /** Events that come after so many of them. */
  during: fc.array(fc.record({ after: fc.nat(5), event }), { maxLength: 3 }),
  /** `forgets`: the block before is forgotten with it; `held`: what waits for it has waited too long. */
  fate: fc.constantFrom('ends', 'ends', 'is cut', 'is cut and said again', 'forgets', 'held'),
});
const act = fc.oneof(
  { weight: 6, arbitrary: fc.record({ act: fc.constant('say' as const), spoken }) },
  { weight: 3, arbitrary: fc.record({ act: fc.constant('event' as const), event }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('rest' as const), rounds: fc.nat(6) }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('status' as const), place: fc.nat(2) }) },
  {
    weight: 1,
    arbitrary: fc.record({ act: fc.constant('burst' as const), pieces: fc.integer({ min: 505, max: 520 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ act: fc.constant('crash' as const), forgets: fc.boolean(), inBlock: fc.boolean() }),
  },
);
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;
type Spoken = typeof spoken extends fc.Arbitrary<infer T> ? T : never;

/** A reader that leaves after so many items, each time, and rests so many rounds after each item; told first or not. */
const watcher = fc.record({
  stays: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
  rests: fc.array(fc.nat(4), { minLength: 1, maxLength: 5 }),
  first: fc.boolean(),
});
type Watcher = typeof watcher extends fc.Arbitrary<infer T> ? T : never;

/** Plays a turn as its host does, and knows what of it stands in the end. */
class Story {
  readonly store = new MemoryLog();
  side = new Side(this.store);
  /** Blocks that were said and not withdrawn. */
  standing: Block[] = [];
  /** How many of them at the end a restart withdraws. */
  #span = 0;
  /** The latest blocks, as far as the host knows them: at least those. */
  #known: Block[] = [];
  /** True when an event waits for the open block. */
  #waits = false;
  readonly #tick: (ms: number) => void;

  constructor(context: TestContext, pauses: readonly number[]) {
    let writes = 0;
    this.store.pause = async () => {
      for (let left = pauses[(writes += 1) % pauses.length] ?? 0; left > 0; left -= 1) await soon();
    };
    this.#tick = (ms) => context.mock.timers.tick(ms);
  }

  async play(acts: readonly Act[]): Promise<void> {
    await this.side.log.begin();
    for (const one of acts) {
      if (one.act === 'say') await this.#say(one.spoken);
      else if (one.act === 'event') this.#event(one.event, false);
      else if (one.act === 'crash') await this.#crash(one);
      else if (one.act === 'status') this.#status(one.place);
      else if (one.act === 'rest') for (let left = one.rounds; left > 0; left -= 1) await soon();
      else this.#burst(one.pieces);
    }
    await this.side.log.finish(anEnd);
  }

  async #say({ kind, whole, cuts, streamed, during, fate }: Spoken): Promise<void> {
    const bounds = [0, ...cuts.map((cut) => Math.min(cut, whole.length)), whole.length].toSorted((a, b) => a - b);
    const pieces = bounds.slice(1).map((end, index) => whole.slice(bounds[index], end));
    const { log } = this.side;
    let open = false;
    for (const [index, piece] of pieces.slice(0, streamed).entries()) {
      if (piece !== '') log.delta(kind, piece);
      open ||= piece !== '';
      for (const { event: what } of during.filter(({ after }) => after === index)) this.#event(what, open);
      if (fate === 'held' && this.#waits) this.#hold();
      if (index % 2 === 1) await soon();
    }
    if (open && (fate === 'forgets' || fate.startsWith('is cut'))) this.#restart(fate === 'forgets');
    if (fate === 'is cut' || fate === 'forgets') {
      if (open) this.#blockIsOver();
      return;
    }
    const block: Block =
      kind === 'text'
        ? { type: 'text', message_id: 'm', text: whole }
        : { type: 'thinking', message_id: 'm', thinking: whole };
    void log.append(block).catch(() => undefined);
    this.standing.push(block);
    this.#known.push(block);
    this.#span += 1;
    this.#blockIsOver();
  }

  #status(place: number): void {
    this.side.log.status(place === 0 ? { status: 'running' } : { status: 'queued', place });
  }

  #event(what: string, open: boolean): void {
    const { log, ref } = this.side;
    const body: LogEventBody = { type: 'tool_end', tool_use_id: 'a', ok: true, summary: '' };
    const committed = async () => ({ event: (await this.store.append(ref, 0, [body]))[0] ?? null, value: 0 });
    const done =
      what === 'recorded'
        ? log.append(body)
        : log.commit(what === 'committed' ? committed : async () => ({ event: null, value: 0 }));
    done.catch(() => undefined);
    if (what === 'nothing') return;
    if (open) this.#waits = true;
    else [this.#span, this.#known] = [0, []];
  }

  /** The open block is withdrawn; all that stays is told again, whether or not it was withdrawn with it. */
  #restart(forgets: boolean): void {
    const { log } = this.side;
    const forgotten = forgets && this.#span > 0 ? this.#known.pop() : undefined;
    if (forgotten) {
      this.standing.pop();
      this.#span -= 1;
    }
    for (const body of [{ type: 'restart' as const }, ...this.#known]) void log.append(body).catch(() => undefined);
  }

  /** What waits gets its place, after what is said in the same breath. */
  #blockIsOver(): void {
    if (this.#waits) this.#span = 0;
    this.#waits = false;
  }

  /** What waits gets its place before the open block. */
  #hold(): void {
    this.#tick(20_000);
    this.#blockIsOver();
  }

  #burst(pieces: number): void {
    this.#known = [];
    for (let left = pieces; left > 0; left -= 1) this.side.log.delta('text', 'x');
    const block: Block = { type: 'text', message_id: 'm', text: 'x'.repeat(pieces) };
    void this.side.log.append(block).catch(() => undefined);
    this.standing.push(block);
    // Nobody tells it again, so it must not be withdrawn.
    this.#event('recorded', false);
  }

  /** The process is gone with all that was not committed. The next one goes on from the store. */
  async #crash({ forgets, inBlock }: { forgets: boolean; inBlock: boolean }): Promise<void> {
    if (inBlock) this.side.log.delta('text', 'never recorded');
    if (inBlock) await soon();
    const lost = this.side;
    this.side = new Side(this.store);
    lost.live.end();
    const { blocks, span } = standingOf(this.store.events);
    const stays = forgets ? blocks.slice(blocks.length - span).slice(0, -1) : blocks.slice(blocks.length - span);
    await this.side.log.begin();
    await this.side.log.recover([{ type: 'restart' }, ...stays]);
    this.standing = [...blocks.slice(0, blocks.length - span), ...stays];
    [this.#span, this.#known, this.#waits] = [0, [], false];
  }
}

/** The blocks of a log that no `restart` has withdrawn, and how many of them the next one would withdraw. */
function standingOf(log: readonly LogEvent[]): { blocks: Block[]; span: number } {
  const blocks: Block[] = [];
  let mark = 0;
  for (const { body } of log) {
    if (body.type === 'text' || body.type === 'thinking') blocks.push(body);
    else if (body.type === 'restart') blocks.length = mark;
    else mark = blocks.length;
    if (body.type === 'restart') mark = blocks.length;
  }
  return { blocks, span: blocks.length - mark };
}

/** Reads to the result, leaving now and then and coming back with the last cursor. */
async function watch(story: Story, { stays, rests, first }: Watcher): Promise<StreamItem[]> {
  const items: StreamItem[] = [];
  for (let visit = 0; ; visit += 1) {
    let left = stays[visit % stays.length] ?? 1;
    for await (const item of story.side.read(items.at(-1)?.cursor ?? startOfLog, true, first)) {
      items.push(item);
      if (item.event.type === 'result') return items;
      for (let rounds = rests[items.length % rests.length] ?? 0; rounds > 0; rounds -= 1) await soon();
      if ((left -= 1) === 0) break;
    }
    await soon();
  }
}

test('whoever reads, from wherever and however often cut off, has the answer once', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const faithful: Watcher = { stays: [Infinity], rests: [0], first: false };
  const pauses = fc.array(fc.nat(3), { minLength: 1, maxLength: 6 });
  const property = fc.asyncProperty(
    fc.array(act, { maxLength: 10 }),
    fc.array(watcher, { minLength: 2, maxLength: 2 }),
    pauses,
    async (acts, watchers, writes) => {
      const story = new Story(context, writes);
      const reading = [faithful, ...watchers].map((one) => watch(story, one));
      await story.play(acts);
      const answer = {
        content: story.standing.map((block) => (block.type === 'text' ? block.text : '')).join(''),
        thinking: story.standing.map((block) => (block.type === 'thinking' ? block.thinking : '')).join(''),
      };
      assert.deepEqual(joined(await collect(story.side.read(startOfLog, false))), answer, 'of the log alone');
      for (const items of await Promise.all(reading)) {
        assert.ok(goesOn(items), 'cursors go on');
        assert.deepEqual(joined(items), answer, 'of a reader');
        const many = items.length > 200;
        for (let cut = 1; cut < items.length; cut += many ? 97 : 1) {
          const seen = items.slice(0, cut);
          const all = [...seen, ...(await collect(story.side.read(seen.at(-1)?.cursor, false)))];
          assert.ok(goesOn(all));
          assert.deepEqual(joined(all), answer, `cut after ${cut}`);
        }
      }
    },
  );
  await fc.assert(property, { numRuns: 600 });
});
