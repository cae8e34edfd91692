import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatCursor, parseCursor, startOfLog } from './cursor.ts';
import type { Delta, LogEvent, LogEventBody } from './events.ts';
import { StreamProjector, type StreamItem } from './stream.ts';

type Live = { event: LogEvent } | { delta: Delta };

const piece = fc.string({ unit: fc.constantFrom('a', 'b', '😀', '\n', 'é'), minLength: 1, maxLength: 6 });
const block = fc.record({
  kind: fc.constantFrom('text' as const, 'thinking' as const),
  pieces: fc.array(piece, { minLength: 1, maxLength: 5 }),
  /** Another durable event falls into the open block before this piece. */
  inside: fc.option(fc.nat(4), { nil: undefined }),
  /** The block is begun once before, after an event of another type, and then withdrawn. */
  withdrawn: fc.boolean(),
  /** Pieces that were published live; the rest comes with the durable event. */
  live: fc.nat(5),
});

type Block = typeof block extends fc.Arbitrary<infer T> ? T : never;

/** Everything a turn publishes, in order, as the owner of the turn would. */
function publish(blocks: readonly Block[]): Live[] {
  const items: Live[] = [];
  const log = (body: LogEventBody) => {
    const seq = items.filter((item) => 'event' in item).length + 1;
    items.push({ event: { seq, turn: 't', at: 0, body } });
  };
  blocks.forEach(({ kind, pieces, inside, withdrawn, live }, index) => {
    if (withdrawn) log({ type: 'retry', attempt: 1, reason: '' });
    for (const round of withdrawn ? [0, 1] : [1]) {
      let offset = 0;
      pieces.slice(0, live).forEach((text, at) => {
        if (at === inside && !withdrawn) log({ type: 'tool_end', tool_use_id: `x${index}`, ok: true, summary: '' });
        items.push({ delta: { block: kind, offset, text } });
        offset += text.length;
      });
      if (round === 0) log({ type: 'restart' });
    }
    const whole = pieces.join('');
    log(
      kind === 'text'
        ? { type: 'text', message_id: 'm', text: whole }
        : { type: 'thinking', message_id: 'm', thinking: whole },
    );
  });
  return items;
}

/** What a reader has at the end: the joined text, with what a restart withdrew taken back, and the other events in order. */
function kept(items: readonly StreamItem[]): { text: string; thinking: string; others: string[] } {
  const state = { text: '', thinking: '', others: [] as string[] };
  let mark = { text: 0, thinking: 0 };
  for (const { event } of items) {
    if (event.type === 'text_delta') state.text += event.content;
    else if (event.type === 'thinking_delta') state.thinking += event.thinking;
    else {
      if (event.type === 'restart') {
        state.text = state.text.slice(0, mark.text);
        state.thinking = state.thinking.slice(0, mark.thinking);
      }
      state.others.push(event.type);
      mark = { text: state.text.length, thinking: state.thinking.length };
    }
  }
  return state;
}

const read = (projector: StreamProjector, items: readonly Live[]): StreamItem[] =>
  items.flatMap((item) => ('event' in item ? projector.log(item.event) : projector.delta(item.delta)) ?? []);

const whole = (blocks: readonly Block[], kind: 'text' | 'thinking') =>
  blocks
    .filter((one) => one.kind === kind)
    .flatMap((one) => one.pieces)
    .join('');

test('joined text is what the blocks hold, once, whatever was streamed', () => {
  fc.assert(
    fc.property(fc.array(block, { maxLength: 5 }), (blocks) => {
      const { text, thinking } = kept(read(new StreamProjector(startOfLog), publish(blocks)));
      assert.equal(text, whole(blocks, 'text'));
      assert.equal(thinking, whole(blocks, 'thinking'));
    }),
    { numRuns: 500 },
  );
});

test('after any cursor that was handed out, the log gives exactly the rest', () => {
  fc.assert(
    fc.property(fc.array(block, { minLength: 1, maxLength: 5 }), fc.nat(), (blocks, pick) => {
      const live = publish(blocks);
      const all = read(new StreamProjector(startOfLog), live);
      if (all.length === 0) return;
      const cut = pick % all.length;
      const cursor = parseCursor(formatCursor((all[cut] as StreamItem).cursor));
      assert.ok(cursor);
      const rest = read(
        new StreamProjector(cursor),
        live.filter((item) => 'event' in item),
      );
      assert.deepEqual(kept([...all.slice(0, cut + 1), ...rest]), kept(all));
    }),
    { numRuns: 1000 },
  );
});

test('a cursor that is not one is refused', () => {
  for (const text of ['', '1', '1.', '.1', '-1.0', '01.0', '1.0.0', '1e3.0', ' 1.0', '9'.repeat(20) + '.0', '١.0']) {
    assert.equal(parseCursor(text), null, text);
  }
  assert.deepEqual(parseCursor('12.5'), { seq: 12, chars: 5 });
});
