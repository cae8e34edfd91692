import { setTimeout as delay } from 'node:timers/promises';
import { inBatches } from '../../support/runs.ts';
import { promptFor } from '../brain.ts';
import type { Fault, Stage } from '../fault.ts';
import type { Operation, Told } from '../history.ts';
import type { Scene } from '../scenarios.ts';
import { raw, starting, waitFor } from './steps.ts';

const readOnly = { permission_mode: 'readOnly', allowed_tools: ['Read'], timeout: 120 };
const unasked = { permission_mode: 'acceptEdits', allowed_tools: ['Bash'], timeout: 120 };

const talkOf = ({ word }: Scene): string => word().replace('fault', 'talk');

/** Begins a conversation that speaks slowly, and gives its id when it is there. */
async function slowTalk(stage: Stage, name: string): Promise<{ id: string; ends: Promise<Operation>; scene: Scene }> {
  const scene = stage.load.scene('alpha', name);
  const [id, mine] = [talkOf(scene), scene.word()];
  scene.talk(id);
  const body = { prompt: promptFor(mine, { do: 'ramble' }), ...readOnly };
  const ends = scene.caller.insist({
    ...starting(id, mine, body),
    streams: true,
  });
  await waitFor(
    () => stage.world.rows(`select id from conversations where id = '${id}'`),
    (rows) => rows.length > 0,
  );
  return { id, ends, scene };
}

/** Reads a conversation's events after a cursor until it leaves or the turn ends. */
const visit = (
  { caller }: Scene,
  id: string,
  word: string | null,
  after: string | null,
  stays: number,
): Promise<Operation> =>
  caller.ask({
    what: 'follow',
    path: `conversation/${id}/events${after === null ? '' : `?after=${after}`}`,
    conversation: id,
    ...(word !== null && { word }),
    heard: (told: Told, count) => told.event.type === 'result' || count >= stays,
  });

export const clientFaults: Fault[] = [
  {
    id: 'C1',
    title: 'readers that take nothing',
    shows: ['I3', 'I4', 'I12'],
    async play(stage) {
      const { id, ends } = await slowTalk(stage, 'C1');
      const sockets = await Promise.all(
        Array.from({ length: 40 }, () => raw(stage, 'alpha', `/api/claude/conversation/${id}/events`)),
      );
      for (const socket of sockets) socket.pause();
      const { outcome } = await ends;
      stage.expect(outcome === 'ok', 'a turn did not go on beside readers that take nothing');
      for (const socket of sockets) socket.destroy();
    },
  },
  {
    id: 'C3',
    title: 'hundreds of clients that break off',
    shows: ['I3', 'I12'],
    async play(stage) {
      const { id, ends } = await slowTalk(stage, 'C3');
      await inBatches(40, Array.from({ length: 400 }), async () => {
        const socket = await raw(stage, 'alpha', `/api/claude/conversation/${id}/events`);
        await delay(stage.dice.between(0, 30));
        socket.resetAndDestroy();
      });
      stage.expect((await ends).outcome === 'ok', 'a turn did not go on while watchers broke off');
    },
  },
  {
    id: 'C4',
    title: 'a client comes back at every event',
    shows: ['I4'],
    async play(stage) {
      const { id, ends, scene } = await slowTalk(stage, 'C4');
      let cursor: string | null = null;
      for (let visits = 0; visits < 400; visits += 1) {
        const { events, outcome }: Operation = await visit(scene, id, null, cursor, stage.dice.between(1, 3));
        cursor = events.findLast((told) => told.id !== null)?.id ?? cursor;
        if (events.some(({ event }) => event.type === 'result')) break;
        if (outcome !== 'ok') await delay(200);
      }
      stage.expect((await ends).outcome === 'ok', 'the turn did not end well');
    },
  },
  {
    id: 'C6',
    title: 'cursors that are none, of another place, or of another tenant',
    shows: ['I4', 'I10', 'I13'],
    async play(stage) {
      const { id, ends, scene } = await slowTalk(stage, 'C6');
      await ends;
      const other = stage.load.scene('bravo', 'C6');
      for (const cursor of ['x', '', '1', '1.0.0', '-1.0', '99999.0', '1e3.0', '%2e', '\u0661.0', 'a'.repeat(5000)]) {
        const path = `conversation/${id}/events?follow=false&after=${encodeURIComponent(cursor)}`;
        const own = await scene.caller.ask({ what: 'wrong', path });
        stage.expect(own.status === 400 || own.status === 422, `the cursor ${cursor.slice(0, 20)} gave ${own.status}`);
        const foreign = await other.caller.ask({ what: 'wrong', path });
        stage.expect(
          foreign.status === 404 || foreign.status === own.status,
          `another tenant's conversation gave ${foreign.status}`,
        );
      }
      const foreign = await other.caller.ask({
        what: 'wrong',
        path: `conversation/${id}/events?follow=false&after=1.0`,
      });
      stage.expect(foreign.status === 404, `another tenant's conversation gave ${foreign.status}`);
    },
  },
  {
    id: 'C10',
    title: 'one idempotency key many times at once, through a crash, and with another body',
    shows: ['I1', 'I5'],
    async play(stage) {
      const { world, watch, load, expect } = stage;
      const scene = load.scene('alpha', 'C10');
      const mine = scene.word();
      const body = { prompt: promptFor(mine, { do: 'ramble' }), ...readOnly };
      const asked = { what: 'query', path: 'query', body, word: mine, key: mine } as const;
      const all = Promise.all(Array.from({ length: 8 }, () => scene.caller.insist(asked)));
      await waitFor(
        () => world.rows(`select id from turns where request like '%${mine}%'`),
        (rows) => rows.length > 0,
      );
      const { back } = await watch.kill(world.first);
      await world.first.start();
      back();
      const statuses = (await all).map(({ status }) => status);
      expect(
        statuses.every((status) => status === 200),
        `repeats under a key gave ${statuses.join(', ')}`,
      );
      const other = await scene.caller.ask({ ...asked, what: 'wrong', body: { ...body, max_turns: 1 } });
      expect(other.status === 422, `another body under a key gave ${other.status}`);
    },
  },
  {
    id: 'C11',
    title: 'cancels that race with the end of the turn',
    shows: ['I3', 'I15'],
    async play(stage) {
      const scene = stage.load.scene('bravo', 'C11');
      for (let times = 0; times < 8; times += 1) {
        const [id, mine] = [talkOf(scene), scene.word()];
        const projectPath = await scene.project();
        const pause = stage.dice.between(0, 1200);
        const body = { prompt: promptFor(mine, { do: 'run' }), ...unasked, project_path: projectPath };
        const cancel = () =>
          scene.caller.ask({
            what: 'cancel',
            path: `conversation/${id}/interrupt`,
            method: 'POST',
            conversation: id,
            word: mine,
          });
        const cancelling: Promise<unknown>[] = [];
        const heard = () => {
          if (cancelling.length === 0) cancelling.push(delay(pause).then(() => Promise.all([cancel(), cancel()])));
        };
        await scene.caller.ask({
          what: 'start',
          path: `conversation/start?session_id=${id}`,
          body,
          conversation: id,
          word: mine,
          streams: true,
          heard,
        });
        await Promise.all(cancelling);
      }
    },
  },
  {
    id: 'C12',
    title: 'two prompts at once in one conversation',
    shows: ['I2', 'I6'],
    async play(stage) {
      const { id, ends, scene } = await slowTalk(stage, 'C12');
      await ends;
      for (let times = 0; times < 5; times += 1) {
        const words = [scene.word(), scene.word(), scene.word()];
        const told = await Promise.all(
          words.map((word) =>
            scene.caller.ask({
              what: 'continue',
              path: `conversation/${id}/continue`,
              body: { session_id: id, message: promptFor(word, { do: 'say' }) },
              conversation: id,
              word,
              key: word,
            }),
          ),
        );
        const taken = told.filter(({ status }) => status === 200).length;
        const busy = told.filter(({ code }) => code === 'conversation_busy').length;
        stage.expect(
          taken >= 1 && taken + busy === 3,
          `of three prompts at once ${taken} were taken and ${busy} refused as busy`,
        );
      }
    },
  },
];
