import { setTimeout as delay } from 'node:timers/promises';
import type { Dice } from '../../soak/random.ts';
import { promptFor, type Task } from './brain.ts';
import type { Caller } from './caller.ts';
import type { Operation, Told } from './history.ts';

/** What a client has to work with. */
export interface Scene {
  caller: Caller;
  dice: Dice;
  /** A word that nobody has used, of the client's tenant. */
  word(): string;
  /** A project of the client's own, with a word in a file. */
  project(): Promise<string>;
  /** Notes a conversation, which has to go on in the end. */
  talk(conversation: string): void;
  /** Notes that a human decides about the commands of this word. */
  gate(word: string): void;
  /** True when the load is over. */
  isOver(): boolean;
  /** What a turn is given. */
  timeout: number;
  /** A conversation of another tenant; null when there is none yet. */
  foreign(): string | null;
}

const readOnly = { permission_mode: 'readOnly', allowed_tools: ['Read', 'Grep', 'Glob'] };
const asking = { permission_mode: 'askForEdits', allowed_tools: ['Read', 'Bash'] };
const unasked = { permission_mode: 'acceptEdits', allowed_tools: ['Read', 'Bash'] };

const base = 'conversation';

/** The id of a conversation, which is no canary: others may try it. */
const talkId = ({ word }: Scene): string => word().replace('fault', 'talk');

/** A query under a key, said again until it is known what became of it; at times twice at once, or with another body. */
async function query({ caller, dice, word, timeout }: Scene): Promise<void> {
  const mine = word();
  const body = { prompt: promptFor(mine, { do: 'say' }), ...readOnly, timeout };
  const streams = dice.chance(0.4);
  const asked = {
    what: streams ? 'stream' : 'query',
    path: streams ? 'stream' : 'query',
    body,
    word: mine,
    key: mine,
  } as const;
  const [isTwice, isMistaken] = [dice.chance(0.3), dice.chance(0.2)];
  await Promise.all([caller.insist(asked), ...(isTwice ? [caller.insist(asked)] : [])]);
  if (isMistaken) await caller.ask({ ...asked, what: 'wrong', body: { ...body, max_turns: 2 }, word: mine });
}

/** A query whose client may leave in the middle of it. */
async function leaver({ caller, dice, word, timeout }: Scene): Promise<void> {
  const mine = word();
  const after = dice.between(1, 12);
  const body = { prompt: promptFor(mine, { do: 'ramble' }), ...readOnly, timeout };
  await caller.ask({ what: 'stream', path: 'stream', body, word: mine, heard: (_told, count) => count >= after });
}

/** Says something, and hears it to the end of the turn: over its stream, and where that breaks over the log. */
async function say(
  scene: Scene,
  id: string,
  begins: boolean,
  word: string,
  task: Task,
  more: object,
  heard?: Heard,
): Promise<void> {
  const { caller, dice } = scene;
  const prompt = promptFor(word, task);
  const [path, body] = begins
    ? [`${base}/start?session_id=${id}`, { prompt, timeout: scene.timeout, ...more }]
    : [`${base}/${id}/continue`, { session_id: id, message: prompt }];
  const [streams, leavesAt] = [dice.chance(0.7), dice.chance(0.4) ? dice.between(1, 15) : Infinity];
  const operation = await caller.insist({
    what: begins ? 'start' : 'continue',
    path,
    body,
    conversation: id,
    word,
    key: word,
    streams: streams || heard !== undefined,
    heard: (told, count) => {
      heard?.(told);
      return count >= leavesAt;
    },
  });
  if (operation.status === null || operation.status >= 300 || isWhole(operation)) return;
  await follow(scene, id, operation.events.findLast((told) => told.id !== null)?.id ?? null, word, heard);
}

type Heard = (told: Told) => void;

const isWhole = ({ status, events, left, outcome }: Operation): boolean =>
  (status === 200 && events.length === 0 && outcome === 'ok' && !left) ||
  events.some(({ event }) => event.type === 'result');

const mostVisits = 60;
const visitPauseMs = 300;

/** Follows the log from a cursor to the end of the turn, at times leaving and coming back. */
async function follow(
  { caller, dice, isOver }: Scene,
  id: string,
  after: string | null,
  word: string,
  heard?: Heard,
): Promise<void> {
  let cursor = after;
  for (let visits = 0; visits < mostVisits; visits += 1) {
    const stays = dice.chance(0.5) ? dice.between(1, 8) : Infinity;
    const operation = await caller.ask({
      what: 'follow',
      path: `${base}/${id}/events${cursor === null ? '' : `?after=${cursor}`}`,
      conversation: id,
      word,
      heard: (told, count) => {
        heard?.(told);
        return told.event.type === 'result' || count >= stays || isOver();
      },
    });
    if (operation.events.some(({ event }) => event.type === 'result') || operation.status === 404 || isOver()) return;
    cursor = operation.events.findLast((told) => told.id !== null)?.id ?? cursor;
    await delay(visitPauseMs);
  }
}

/** A conversation of some turns, one of which reads a file. */
async function conversation(scene: Scene): Promise<void> {
  const id = talkId(scene);
  scene.talk(id);
  const files = [{ path: 'note.txt', content: `The note says ${scene.word()}\n` }];
  await say(scene, id, true, scene.word(), { do: 'say' }, { ...readOnly, files });
  const turns = scene.dice.between(1, 3);
  for (let turn = 0; turn < turns && !scene.isOver(); turn += 1) {
    const task: Task = scene.dice.pick([{ do: 'say' }, { do: 'ramble' }, { do: 'read', path: 'note.txt' }]);
    await say(scene, id, false, scene.word(), task, {});
  }
}

/** A command that a human allows or denies, at times both at once, at times with another input, at times not at all. */
async function gated(scene: Scene): Promise<void> {
  const { caller, dice, word, project } = scene;
  const [id, mine] = [talkId(scene), word()];
  scene.talk(id);
  scene.gate(mine);
  const way = dice.pick(['allow', 'allow', 'allow', 'deny', 'both', 'cancel', 'later'] as const);
  const deciding: Promise<unknown>[] = [];
  const decide = (approval: string, decision: 'allow' | 'deny') =>
    caller.insist(
      { what: 'decide', path: `approvals/${approval}`, body: { decision }, conversation: id, word: mine },
      scene.isOver,
    );
  const cancel = () =>
    caller.ask({ what: 'cancel', path: `${base}/${id}/interrupt`, method: 'POST', conversation: id, word: mine });
  const asked = new Set<string>();
  const pause = dice.between(0, 400);
  const heard: Heard = ({ event }) => {
    if (event.type !== 'approval_requested' || asked.has(event.approval.approval_id)) return;
    const approval = event.approval.approval_id;
    asked.add(approval);
    if (way === 'later') return;
    const both = way === 'both' ? [decide(approval, 'allow'), decide(approval, 'deny')] : [];
    const one =
      way === 'cancel'
        ? [cancel(), decide(approval, 'allow')]
        : way === 'both'
          ? []
          : [delay(pause).then(() => decide(approval, way))];
    deciding.push(...both, ...one);
  };
  const projectPath = await project();
  const said = say(scene, id, true, mine, { do: 'run' }, { ...asking, project_path: projectPath }, heard);
  await said;
  await Promise.all(deciding);
}

/** A command that nobody is asked about; its turn is cancelled before, in, or after it. */
async function cancelled(scene: Scene): Promise<void> {
  const { caller, dice, word, project } = scene;
  const [id, mine] = [talkId(scene), word()];
  scene.talk(id);
  const [cancels, pause] = [dice.chance(0.6), dice.between(0, 1500)];
  const projectPath = await project();
  const cancelling: Promise<unknown>[] = [];
  await say(scene, id, true, mine, { do: 'run' }, { ...unasked, project_path: projectPath }, () => {
    if (!cancels || cancelling.length > 0) return;
    const cancel = delay(pause).then(() =>
      caller.ask({ what: 'cancel', path: `${base}/${id}/interrupt`, method: 'POST', conversation: id, word: mine }),
    );
    cancelling.push(cancel);
  });
  await Promise.all(cancelling);
}

/** Lists and looks, and asks for what belongs to another tenant. */
async function reader({ caller, dice, foreign }: Scene): Promise<void> {
  for (const path of ['conversation?limit=50', 'approvals?limit=50', 'usage', 'health', 'models'])
    await caller.ask({ what: 'read', path });
  const other = foreign();
  if (other === null) return;
  const what = dice.pick(['info', 'messages', 'events?follow=false', 'files', 'diff', 'continue', 'interrupt']);
  const body = what === 'continue' ? { session_id: other, message: 'What do you know?' } : undefined;
  const isPost = body !== undefined || what === 'interrupt';
  await caller.ask({
    what: 'wrong',
    path: `${base}/${other}/${what}`,
    method: isPost ? 'POST' : 'GET',
    ...(body && { body }),
  });
}

/** Cursors that are none, or of another place. */
async function mistaken(scene: Scene): Promise<void> {
  const { caller, dice, word, timeout } = scene;
  const [id, mine] = [talkId(scene), word()];
  await caller.insist({
    what: 'start',
    path: `${base}/start?session_id=${id}`,
    body: { prompt: promptFor(mine, { do: 'say' }), ...readOnly, timeout },
    conversation: id,
    word: mine,
    key: mine,
  });
  const cursor = dice.pick(['x', '1', '99999.0', '-1.0', '1e9.0', '%00']);
  await caller.ask({ what: 'wrong', path: `${base}/${id}/events?follow=false&after=${cursor}` });
}

/** How often each is played, against the others. */
export const scenarios = {
  query: 4,
  leaver: 2,
  conversation: 4,
  gated: 4,
  cancelled: 3,
  reader: 2,
  mistaken: 1,
} as const;
export type ScenarioName = keyof typeof scenarios;

const plays: Record<ScenarioName, (scene: Scene) => Promise<void>> = {
  query,
  leaver,
  conversation,
  gated,
  cancelled,
  reader,
  mistaken,
};

export const playScenario = (name: ScenarioName, scene: Scene): Promise<void> => plays[name](scene);
