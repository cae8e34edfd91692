import { gistOf, isSame } from '../gist.ts';
import {
  Look,
  shown,
  type Finding,
  type Observed,
  type Operation,
  type ReadLog,
  type Told,
  type UpstreamCall,
} from '../history.ts';

/** I2: a conversation has one writer: epochs rise, turns do not mix, and the upstream sees one call after the other. */
export function oneWriter(observed: Observed): Finding {
  const look = new Look();
  const { turns, events } = observed;
  const conversations = Map.groupBy(turns, ({ tenant, conversation }) => `${tenant} ${conversation}`);
  for (const [conversation, own] of conversations) {
    const first = (turn: string) => events.find((event) => event.turn === turn)?.seq ?? Infinity;
    const epochs = own.toSorted((a, b) => first(a.id) - first(b.id)).map(({ epoch }) => epoch);
    const rises = epochs.every((epoch, index) => index === 0 || epoch > (epochs[index - 1] ?? 0));
    look.at(rises, () => `the epochs of ${conversation} do not rise: ${epochs.join(', ')}`);
    const order = events
      .filter((event) => `${event.tenant} ${event.conversation}` === conversation)
      .toSorted((a, b) => a.seq - b.seq)
      .map(({ turn }) => turn);
    const changes = order.filter((turn, index) => turn !== order[index - 1]);
    look.at(new Set(changes).size === changes.length, () => `turns of ${conversation} mix: ${shown(changes)}`);
    const words = new Set(own.map(({ word }) => word));
    interleaved(
      observed,
      observed.calls.filter(({ word }) => words.has(word)),
      conversation,
      look,
    );
  }
  return look.finding;
}

/** Calls that a frozen node had made cannot be taken back; it may not make others. */
function interleaved({ frozen }: Observed, calls: readonly UpstreamCall[], conversation: string, look: Look): void {
  const isOfFrozen = ({ at, credential }: UpstreamCall) =>
    frozen.some((span) => span.credential === credential && at <= span.to);
  const inOrder = calls.toSorted((a, b) => a.at - b.at);
  inOrder.forEach((call, index) => {
    const before = inOrder.slice(0, index).find((other) => {
      const isOver = other.finishedAt !== null && other.finishedAt <= call.at;
      return !isOver && other.outcome === 'answered' && call.outcome === 'answered' && !isOfFrozen(other);
    });
    look.at(before === undefined, () => `calls of ${conversation} overlap: ${spanOf(before)} and ${spanOf(call)}`);
  });
}

const spanOf = (call: UpstreamCall | undefined): string => `${call?.at}-${call?.finishedAt} (${call?.word})`;

/** I4: sequence numbers have no gaps, cursors rise, and each cursor gives exactly what follows it. */
export function exactLog(observed: Observed): Finding {
  const look = new Look();
  for (const [log, rows] of Map.groupBy(observed.events, (event) => `${event.tenant} ${event.conversation}`)) {
    const numbers = rows.map(({ seq }) => seq).toSorted((a, b) => a - b);
    look.at(
      numbers.every((seq, index) => seq === index + 1),
      () => `the log of ${log} has a gap: ${numbers.join(', ')}`,
    );
  }
  for (const log of observed.logs) {
    rising(log.whole, `the log of ${log.conversation}`, look);
    for (const [cursor, rest] of Object.entries(log.after)) {
      if (rest !== null) suffixOf(log, cursor, rest, look);
      else look.at(false, () => `the cursor ${cursor} of ${log.conversation} was refused`);
    }
  }
  for (const operation of observed.operations.filter(({ events }) => events.length > 0))
    heard(observed, operation, look);
  return look.finding;
}

const place = (id: string | null): [number, number] => {
  const [seq = NaN, chars = NaN] = (id ?? '').split('.').map(Number);
  return [seq, chars];
};

function rising(events: readonly Told[], what: string, look: Look): void {
  const ids = events.filter(({ event }) => event.type !== 'status').map(({ id }) => id);
  const rises = ids.every((id, index) => {
    const [[seq, chars], [seqBefore, charsBefore]] = [place(id), place(ids[index - 1] ?? '0.0')];
    return index === 0 || seq > seqBefore || (seq === seqBefore && chars > charsBefore);
  });
  look.at(rises, () => `the cursors of ${what} do not rise: ${shown(ids)}`);
}

/** What follows a cursor is the rest of the log, of which the cursor may divide the first text. */
function suffixOf({ whole, conversation }: ReadLog, cursor: string, rest: readonly Told[], look: Look): void {
  const [seq, chars] = place(cursor);
  const expected = whole.filter(({ id }) => place(id)[0] > seq);
  const isSuffix = [expected, ...(chars > 0 ? [expected.slice(1)] : [])].some((right) => {
    const divided = chars > 0 && rest.length === expected.length ? [rest.slice(1), right.slice(1)] : [rest, right];
    return JSON.stringify(divided[0]) === JSON.stringify(divided[1]);
  });
  look.at(isSuffix, () => `after ${cursor}, the log of ${conversation} has another rest: ${shown(rest)}`);
}

/** What a client heard, with what the service gives after the last cursor it got, is what the log holds from there on. */
function heard(observed: Observed, operation: Operation, look: Look): void {
  const { number, tenant, what, path, word, events } = operation;
  const log = observed.logs.find((each) => each.conversation === operation.conversation && each.tenant === tenant);
  const last = events.findLast(({ id }) => id !== null);
  const rest = log?.after[last?.id ?? ''];
  if (log === undefined || rest === undefined || rest === null) return;
  rising(events, `operation ${number}`, look);
  const from = new URLSearchParams(path.split('?')[1]).get('after');
  let [expected, missing] = [from === null ? log.whole : log.after[from], rest];
  if (what !== 'follow') {
    const seqs = observed.events.filter(({ turn }) => turn === turnOf(observed, word)).map(({ seq }) => seq);
    const [begin, end] = [Math.min(...seqs), Math.max(...seqs)];
    expected = log.whole.filter(({ id }) => place(id)[0] >= begin && place(id)[0] <= end);
    missing = rest.filter(({ id }) => place(id)[0] <= end);
  }
  if (expected === undefined || expected === null) return;
  const [found, right] = [gistOf([...events, ...missing]), gistOf(expected)];
  look.at(isSame(found, right), () => `operation ${number} heard ${shown(found)}, the log holds ${shown(right)}`);
}

const turnOf = ({ turns }: Observed, word: string | null): string | undefined =>
  turns.find((turn) => word !== null && turn.word === word)?.id;
