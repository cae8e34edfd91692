import { gistOf } from '../gist.ts';
import { Look, shown, wordsIn, type Finding, type Observed, type Operation, type TurnRow } from '../history.ts';

const starts = new Set<Operation['what']>(['query', 'stream', 'start', 'continue']);

/** True when the service has told the client that it took the prompt: with an answer, or with its first event. */
const isAcknowledged = ({ what, status, outcome, events }: Operation): boolean =>
  starts.has(what) && status !== null && status < 300 && (outcome === 'ok' || events.length > 0);

const name = ({ number, what, path, word }: Operation): string => `operation ${number} (${what} ${path} ${word ?? ''})`;

/** The end that a client was told. */
function endOf({ events, received, outcome, status }: Operation): Record<string, any> | null {
  const told = events.findLast(({ event }) => event.type === 'result')?.event;
  if (told !== undefined) return told;
  if (outcome !== 'ok' || status !== 200 || !received.startsWith('{')) return null;
  const body = JSON.parse(received) as Record<string, any>;
  return 'stop_reason' in body ? body : null;
}

/** I1: no acknowledged turn, and no acknowledged decision of an approval, is lost. */
export function nothingLost(observed: Observed): Finding {
  const look = new Look();
  const turns = new Map(observed.turns.map((turn) => [turn.word, turn]));
  const deleted = observed.operations.filter(({ what }) => what === 'delete').map(({ conversation }) => conversation);
  for (const operation of observed.operations.filter(isAcknowledged)) {
    if (deleted.includes(operation.conversation)) continue;
    const turn = turns.get(operation.word);
    look.at(turn !== undefined, () => `${name(operation)} was acknowledged, and there is no turn of it`);
    if (turn === undefined) continue;
    const own = observed.events.filter((event) => event.turn === turn.id);
    const isTold = own.some(({ type, payload }) => type === 'user_message' && payload['text'].includes(operation.word));
    look.at(isTold, () => `${name(operation)} was acknowledged, and its message is not in the log`);
    const end = endOf(operation);
    if (end === null) continue;
    look.at(
      end['stop_reason'] === 'waiting' || end['stop_reason'] === turn.stopReason,
      () => `${name(operation)} ended with ${end['stop_reason']} for its client, and is stored with ${turn.stopReason}`,
    );
  }
  for (const operation of observed.operations.filter(({ what, status }) => what === 'decide' && status === 200)) {
    const id = operation.path.split('/').at(-1);
    const decided = (JSON.parse(operation.received) as Record<string, any>)['status'];
    const row = observed.approvals.find((approval) => approval.id === id);
    look.at(row?.status === decided, () => `${name(operation)} was ${decided}, and is stored as ${row?.status}`);
  }
  return look.finding;
}

/** I3: every accepted turn has exactly one end, in bounded time. */
export function oneEnd({ turns, events, operations, longestTurnMs }: Observed): Finding {
  const look = new Look();
  for (const turn of turns) {
    const own = events.filter((event) => event.turn === turn.id);
    const results = own.filter(({ type }) => type === 'result').length;
    look.at(turn.endedAt !== null, () => `turn ${turn.id} (${turn.word}) is ${turn.state} and has no end`);
    look.at(results === 1, () => `turn ${turn.id} (${turn.word}) has ${results} results`);
    look.at(own.at(-1)?.type === 'result', () => `turn ${turn.id} (${turn.word}) goes on after its end`);
    const waited = waitedMs(own);
    const took = (turn.endedAt ?? 0) - turn.acceptedAt - waited;
    look.at(took <= longestTurnMs, () => `turn ${turn.id} (${turn.word}) took ${took} ms; at most ${longestTurnMs}`);
  }
  for (const operation of operations.filter(({ what, outcome }) => starts.has(what) && outcome === 'ok')) {
    if (operation.left || operation.events.length === 0) continue;
    const ends = operation.events.filter(({ event }) => event.is_complete).length;
    look.at(ends === 1, () => `${name(operation)} was told of ${ends} ends`);
  }
  return look.finding;
}

/** How long a turn waited for humans. */
function waitedMs(events: Observed['events']): number {
  let [waited, since] = [0, null as number | null];
  for (const { type, at } of events) {
    if (type === 'approval_requested') since ??= at;
    else if (since !== null) [waited, since] = [waited + at - since, null];
  }
  return waited;
}

/** I5: what is sent under an idempotency key runs once, and every answer under it is the same. */
export function oncePerKey({ operations, turns, toolRuns }: Observed): Finding {
  const look = new Look();
  const byKey = Map.groupBy(
    operations.filter(({ key }) => key !== null),
    ({ tenant, key }) => `${tenant} ${key}`,
  );
  for (const [key, all] of byKey) {
    const words = new Set(all.flatMap(({ word }) => (word === null ? [] : [word])));
    const run = turns.filter(({ word }) => word !== null && words.has(word));
    look.at(run.length <= 1, () => `${key} has ${run.length} turns: ${shown(run.map(({ id }) => id))}`);
    const good = all.filter(({ outcome, status, left }) => outcome === 'ok' && status === 200 && !left);
    const bodies = new Set(good.map(({ body }) => body));
    look.at(bodies.size <= 1, () => `${key} was accepted with ${bodies.size} different bodies`);
    const answers = new Set(good.map(answerOf));
    look.at(answers.size <= 1, () => `${key} has different answers: ${shown([...answers])}`);
  }
  for (const [word, runs] of Map.groupBy(toolRuns, (run) => run.word)) {
    look.at(runs.length === 1, () => `the command of ${word} ran ${runs.length} times`);
  }
  return look.finding;
}

/** What an answer says, the same whether it came as JSON or as a stream. */
function answerOf(operation: Operation): string {
  if (operation.events.length > 0) return gistOf(operation.events).answer;
  const body = JSON.parse(operation.received) as Record<string, any>;
  const messages = (body['messages'] ?? body['new_messages'] ?? []) as { role: string; content: string }[];
  return messages.flatMap(({ role, content }) => (role === 'assistant' ? [content] : [])).join('');
}

/** I6: a conversation goes on with all that was said in its turns that ended well. */
export function fullContext({ turns, events, finals }: Observed): Finding {
  const look = new Look();
  for (const word of finals) {
    const turn = turns.find((each) => each.word === word);
    look.at(
      turn?.stopReason === 'end_turn',
      () => `a conversation did not go on: ${word} ended with ${turn?.stopReason}`,
    );
  }
  for (const own of Map.groupBy(turns, ({ tenant, conversation }) => `${tenant} ${conversation}`).values()) {
    const known: string[] = [];
    for (const turn of own.toSorted((a, b) => a.epoch - b.epoch)) {
      if (turn.stopReason !== 'end_turn' || turn.word === null) continue;
      const heard = wordsIn(textOf(turn, events));
      // Only an answer that names words tells what the model knew.
      if (known.length > 0 && heard.length > 0) {
        const missing = known.filter((word) => !heard.includes(word));
        look.at(missing.length === 0, () => `turn ${turn.id} (${turn.word}) did not know of ${missing.join(', ')}`);
      }
      known.push(turn.word);
    }
  }
  return look.finding;
}

const textOf = ({ id }: TurnRow, events: Observed['events']): string =>
  events.flatMap(({ turn, type, payload }) => (turn === id && type === 'text' ? [payload['text']] : [])).join('\n');
