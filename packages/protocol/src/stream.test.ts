import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatCursor, parseCursor, startOfLog } from './cursor.ts';
import type { Delta, LogEvent, LogEventBody } from './events.ts';
import { StreamProjector, type StreamItem } from './stream.ts';

type Live = { event: LogEvent } | { delta: Delta };

const piece = fc.string({
  unit: fc.constantFrom('a', 'b', '😀', '\n', 'é', '\ud83d', '\ude00'),
  minLength: 1,
  maxLength: 6,
});
const block = fc.record({
  kind: fc.constantFrom('text' as const, 'thinking' as const),
  pieces: fc.array(piece, { minLength: 1, maxLength: 5 }),
  /** An event of another type comes before the block. */
  apart: fc.boolean(),
  /** How often the block is begun and withdrawn before it is told whole: its writer was cut, or is gone with all it streamed. */
  withdrawn: fc.nat(2),
  /** Pieces that are published live; the rest comes with the durable event. */
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
  /** What a restart withdraws and is told again. */
  let span: LogEventBody[] = [];
  blocks.forEach(({ kind, pieces, apart, withdrawn, live }, index) => {
    if (apart) {
      log({ type: 'tool_end', tool_use_id: `x${index}`, ok: true, summary: '' });
      span = [];
    }
    for (let left = withdrawn; left >= 0; left -= 1) {
      let offset = 0;
      for (const text of pieces.slice(0, live)) {
        items.push({ delta: { block: kind, offset, text } });
        offset += text.length;
      }
      if (left > 0) for (const body of [{ type: 'restart' as const }, ...span]) log(body);
    }
    const whole = pieces.join('');
    const body: LogEventBody =
      kind === 'text'
        ? { type: 'text', message_id: 'm', text: whole }
        : { type: 'thinking', message_id: 'm', thinking: whole };
    log(body);
    span.push(body);
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

test('after every cursor that was handed out, the log gives exactly the rest', () => {
  fc.assert(
    fc.property(fc.array(block, { minLength: 1, maxLength: 5 }), (blocks) => {
      const live = publish(blocks);
      const all = read(new StreamProjector(startOfLog), live);
      const log = live.filter((item) => 'event' in item);
      all.forEach(({ cursor }, at) => {
        const again = parseCursor(formatCursor(cursor));
        assert.ok(again);
        const joined = [...all.slice(0, at + 1), ...read(new StreamProjector(again), log)];
        const { text, thinking, others } = kept(joined);
        assert.equal(text, whole(blocks, 'text'));
        assert.equal(thinking, whole(blocks, 'thinking'));
        assert.deepEqual(others, kept(all).others);
        joined.slice(1).forEach(({ cursor: { seq, chars } }, before) => {
          const last = joined[before]?.cursor ?? startOfLog;
          assert.ok(seq > last.seq || (seq === last.seq && chars > last.chars), 'cursors go on');
        });
      });
    }),
    { numRuns: 500 },
  );
});

test("a reader that is moved to another one's cursor goes on like it", () => {
  fc.assert(
    fc.property(fc.array(block, { minLength: 1, maxLength: 3 }), fc.nat(), (blocks, pick) => {
      const live = publish(blocks);
      const at = pick % live.length;
      const one = new StreamProjector(startOfLog);
      read(one, live.slice(0, at));
      const other = new StreamProjector({ seq: 99, chars: 99 });
      other.moveTo(one.cursor);
      assert.deepEqual(read(other, live.slice(at)), read(one, live.slice(at)));
    }),
  );
});

test('a cursor that is not one is refused', () => {
  for (const text of ['', '1', '1.', '.1', '-1.0', '01.0', '1.0.0', '1e3.0', ' 1.0', '9'.repeat(20) + '.0', '١.0']) {
    assert.equal(parseCursor(text), null, text);
  }
  assert.deepEqual(parseCursor('12.5'), { seq: 12, chars: 5 });
});
