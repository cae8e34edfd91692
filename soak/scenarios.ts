import { setTimeout as delay } from 'node:timers/promises';
import { promptFor, editing, reading, saying, type Task } from './brain.ts';
import { Crashed, expect, expectEnd, type Body, type Client, type Heard } from './client.ts';
import type { Dice } from './random.ts';
import { Socket } from './socket.ts';
import { wordsIn } from '../bench/words.ts';

/** What a scenario has to work with. */
export interface Scene {
  readonly client: Client;
  readonly dice: Dice;
  /** A word that nobody has used. */
  readonly word: () => string;
}

/** Something that a client does, with everything it gets back checked. */
export interface Scenario {
  /** How often it is done, against the others. */
  readonly weight: number;
  /** What it costs the service, in queries. */
  readonly cost: number;
  play(scene: Scene): Promise<void>;
}

/** No turn runs into its time, however busy the machine is. */
const timeout = 300;
const readOnly = { permission_mode: 'readOnly', allowed_tools: ['Read', 'Grep', 'Glob'], timeout } as const;
const tries = 5;

const textOf = (messages: readonly Body[]): string =>
  messages.flatMap(({ role, content }) => (role === 'assistant' ? [String(content)] : [])).join('');

async function oneShot({ client, word }: Scene): Promise<void> {
  const mine = word();
  const answer = await client.json('POST', 'query', { prompt: promptFor(mine), ...readOnly });
  expectEnd(answer);
  const text = textOf(answer['messages']);
  expect(text === saying([mine]), 'a query has another answer', text);
}

async function streamed({ client, word }: Scene): Promise<void> {
  const mine = word();
  const { text, end } = await client.stream('stream', { prompt: promptFor(mine), ...readOnly });
  expectEnd(end);
  expect(text === saying([mine]), 'a stream has another answer', text);
}

/** The words that an answer must have: those of turns that were answered. Those of turns that crashed it may have. */
class Talk {
  readonly #said: { readonly word: string; answered: boolean }[] = [];

  add(word: string): void {
    this.#said.push({ word, answered: false });
  }

  /** Checks an answer to the last word, which now is answered. */
  check(text: string): void {
    const last = this.#said.at(-1);
    if (last !== undefined) last.answered = true;
    const heard = new Set(wordsIn(text));
    const known = this.#said.filter(({ word, answered }) => answered || heard.has(word)).map(({ word }) => word);
    expect(text === saying(known), `not the answer with ${known.join(', ')}`, text);
  }
}

/** Does it again while its process is killed. */
async function insist<T>(attempt: () => Promise<T>, crashed: () => void): Promise<T> {
  for (let number = 1; ; number += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Crashed) || number === tries) throw error;
      crashed();
    }
  }
}

/** A conversation that is deleted at its end, whatever happens. */
async function conversing(scene: Scene, body: (id: string) => Promise<void>): Promise<void> {
  const id = scene.word();
  try {
    await body(id);
  } finally {
    const { status } = await scene.client.fetch('DELETE', `conversation/${id}`);
    expect(status === 200 || status === 404, `a conversation could not be deleted: ${status}`, id);
  }
}

const start = (scene: Scene, id: string, word: string, task: Task, more: Body): Promise<Body> =>
  scene.client.json('POST', `conversation/start?session_id=${id}`, { prompt: promptFor(word, task), ...more });

const goOn = (scene: Scene, id: string, word: string, task?: Task): Promise<Body> =>
  scene.client.json('POST', `conversation/${id}/continue`, { session_id: id, message: promptFor(word, task) });

/** One turn after another; what crashes is said anew with another word. */
function conversation(crashed: () => void) {
  return (scene: Scene) =>
    conversing(scene, async (id) => {
      const talk = new Talk();
      const turns = scene.dice.between(2, 5);
      for (let turn = 0; turn < turns; turn += 1) {
        const answer = await insist(async () => {
          const word = scene.word();
          talk.add(word);
          const isNew = (await scene.client.fetch('GET', `conversation/${id}/info`)).status === 404;
          const body = isNew ? await start(scene, id, word, { do: 'say' }, readOnly) : await goOn(scene, id, word);
          expectEnd(body);
          return body;
        }, crashed);
        talk.check(textOf(answer['messages'] ?? answer['new_messages']));
        if (scene.dice.chance(0.3)) await delay(scene.dice.between(50, 500));
      }
      const { items } = await scene.client.json('GET', `conversation/${id}/messages`);
      expect((items as Body[]).length >= 2 * turns, 'messages are missing', (items as Body[]).length);
    });
}

async function files(scene: Scene): Promise<void> {
  const inside = Array.from({ length: scene.dice.between(1, 4) }, () => scene.word());
  const given = { files: [{ path: 'docs/note.txt', content: `They are ${inside.join('\n')}\n` }], ...readOnly };
  await conversing(scene, async (id) => {
    const answer = await start(scene, id, scene.word(), { do: 'read', path: 'docs/note.txt' }, given);
    expectEnd(answer);
    const text = textOf(answer['messages']);
    expect(text === reading(inside), 'a file was not read as it is', text);
    const response = await scene.client.send('GET', `conversation/${id}/files/docs/note.txt`);
    expect((await response.text()) === given.files[0]?.content, 'a file has another content', id);
  });
}

/** An edit that a human allows or denies, from the stream of the turn. */
async function edit(scene: Scene): Promise<void> {
  const [from, to, isAllowed] = [scene.word(), scene.word(), scene.dice.chance(0.7)];
  const task: Task = { do: 'edit', path: 'note.txt', from, to };
  const given = { files: [{ path: 'note.txt', content: `${from}\n` }], permission_mode: 'askForEdits', timeout };
  await conversing(scene, async (id) => {
    const body = { prompt: promptFor(scene.word(), task), ...given };
    let asked = 0;
    const heard: Heard = await scene.client.stream(`conversation/start?session_id=${id}`, body, async (event) => {
      if (event['type'] !== 'approval_requested') return false;
      asked += 1;
      const { approval_id: approval } = event['approval'] as Body;
      if (scene.dice.chance(0.3)) await delay(scene.dice.between(50, 1000));
      await scene.client.json('POST', `approvals/${approval}`, { decision: isAllowed ? 'allow' : 'deny' });
      return false;
    });
    expectEnd(heard.end);
    expect(asked === 1, 'a human was not asked once', asked);
    expect(heard.text === editing(isAllowed), 'an edit went another way than was decided', heard.text);
    const response = await scene.client.send('GET', `conversation/${id}/files/note.txt`);
    const content = await response.text();
    expect(content === `${isAllowed ? to : from}\n`, 'a file is not as was decided', content);
  });
}

/** A conversation over a socket, which is dropped in the middle of its second answer. */
async function socket(scene: Scene): Promise<void> {
  const [id, first, second] = [scene.word(), scene.word(), scene.word()];
  let open = await Socket.open(scene.client);
  const isSaid = async (frame: Body, enough?: number) => {
    for (;;) {
      open.send(frame);
      const turn = await open.turn(enough);
      if (turn !== null) return turn;
      scene.client.refusals += 1;
      await delay(1000);
    }
  };
  try {
    const begin = { type: 'start_conversation', session_id: id, prompt: promptFor(first), ...readOnly };
    const began = await isSaid(begin);
    expectEnd(began.end ?? {});
    expect(began.text === saying([first]), 'a socket has another answer', began.text);
    let turn = await isSaid({ type: 'send_message', message: promptFor(second) }, 40);
    if (turn.end === null) {
      open.close();
      open = await Socket.open(scene.client);
      open.send({ type: 'resume', session_id: id, after: turn.cursor });
      turn = (await open.turn(Infinity, turn.text)) ?? turn;
    }
    expectEnd(turn.end ?? {});
    expect(turn.text === saying([first, second]), 'a resumed socket has another answer', turn.text);
    open.send({ type: 'end_conversation', session_id: id });
    while ((await open.next())['type'] !== 'conversation_ended');
  } finally {
    open.close();
    await scene.client.fetch('DELETE', `conversation/${id}`);
  }
}

/** A client that is gone after the first words. */
async function leaver({ client, word }: Scene): Promise<void> {
  const body = { prompt: promptFor(word(), { do: 'ramble' }), ...readOnly };
  const { text, end } = await client.stream('stream', body, (_event, said) => said !== '');
  if (end['is_complete'] === true) expectEnd(end);
  expect(text !== '', 'a stream had no text', end);
}

/** A turn that is interrupted after its first words; the conversation goes on. */
async function interrupt(scene: Scene): Promise<void> {
  await conversing(scene, async (id) => {
    const body = { prompt: promptFor(scene.word(), { do: 'ramble' }), ...readOnly };
    let sent = false;
    const { end } = await scene.client.stream(`conversation/start?session_id=${id}`, body, async (_event, said) => {
      if (said !== '' && !sent) {
        sent = true;
        await scene.client.json('POST', `conversation/${id}/interrupt`);
      }
      return false;
    });
    expectEnd(end, 'interrupted');
    const word = scene.word();
    const answer = await goOn(scene, id, word);
    expectEnd(answer);
    const text = textOf(answer['new_messages']);
    // The model may or may not have been told of the turn that was interrupted.
    expect(text === saying(wordsIn(text)) && wordsIn(text).at(-1) === word, 'no answer after an interrupt', text);
  });
}

/** Requests that must be refused: status, method, path and body. */
const mistakes: readonly (readonly [number, string, string, unknown?])[] = [
  [404, 'GET', 'conversation/nobody-has-this/info'],
  [404, 'GET', 'nothing'],
  [404, 'POST', 'conversation/nobody-has-this/continue', { session_id: 'nobody-has-this', message: 'Hello' }],
  [422, 'POST', 'query', { prompt: '' }],
  [422, 'POST', 'query', { prompt: 'Hello', unknown: 1 }],
  [422, 'POST', 'stream', { prompt: 'Hello', allowed_tools: ['NoSuchTool'] }],
  [403, 'POST', 'query', { prompt: 'Hello', project_path: '/etc' }],
  [400, 'POST', 'conversation/one/continue', { session_id: 'another', message: 'Hello' }],
];

async function wrong({ client, dice }: Scene): Promise<void> {
  const [status, method, path, body] = dice.pick(mistakes);
  const found = await client.fetch(method, path, body);
  const error = (await found.json()) as Body;
  expect(found.status === status, `${method} ${path} gave ${found.status}, not ${status}`, error);
  const stranger = await client.fetch('GET', 'models', undefined, {
    headers: { authorization: 'Bearer nobody-at-all' },
  });
  await stranger.arrayBuffer();
  expect(stranger.status === 401, `an unknown key gave ${stranger.status}`, null);
}

/** All scenarios by name. `crashed` is told of each turn that is said anew as its process was killed. */
export function scenariosOf(crashed: () => void): Readonly<Record<string, Scenario>> {
  return {
    'one-shot': { weight: 5, cost: 1, play: oneShot },
    stream: { weight: 5, cost: 1, play: streamed },
    conversation: { weight: 4, cost: 2, play: conversation(crashed) },
    files: { weight: 2, cost: 1.5, play: files },
    edit: { weight: 3, cost: 2, play: edit },
    socket: { weight: 3, cost: 1.5, play: socket },
    leaver: { weight: 3, cost: 1.5, play: leaver },
    interrupt: { weight: 2, cost: 2, play: interrupt },
    wrong: { weight: 3, cost: 0.1, play: wrong },
  };
}
