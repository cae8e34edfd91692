import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { leftOut } from '../../support/needs.ts';
import { leftOutWithoutPostgres } from '../../support/postgres.ts';
import { promptFor } from '../brain.ts';
import type { Fault, Stage } from '../fault.ts';
import { noDisk } from '../world.ts';
import { readyz, starting, waitFor } from './steps.ts';

const noPostgres = (): string | null => (leftOutWithoutPostgres('faults of Postgres') ? 'there is no Postgres' : null);
const noRedis = (): string | null => (leftOut('faults of Redis', ['redis-server']) ? 'there is no Redis' : null);

/** Notes that nothing could be decided from now until the result is called. */
function undecidable({ watch }: Stage, what: string): () => void {
  const span = { from: Date.now(), to: Number.MAX_SAFE_INTEGER, what };
  watch.undecidable.push(span);
  return () => (span.to = Date.now());
}

const isReady = async ({ world, expect }: Stage): Promise<void> => {
  const status = await waitFor(
    () => readyz(world.first),
    (found) => found === 200,
  );
  expect(status === 200, `the server was not ready again: ${status}`);
};

export const storeFaults: Fault[] = [
  {
    id: 'S1',
    title: 'Postgres is down for seconds, and then answers slowly',
    world: { store: 'postgres' },
    missing: noPostgres,
    shows: ['I1', 'I3', 'I13', 'I16'],
    async play(stage) {
      const { world, expect } = stage;
      await world.postgres?.stop();
      const isBack = undecidable(stage, 'Postgres was down');
      await delay(stage.dice.between(1500, 3000));
      const status = await waitFor(
        () => readyz(world.first),
        (found) => found === 503,
      );
      expect(status === 503, `the server said ${status} without its database`);
      isBack();
      await world.postgres?.start();
      await isReady(stage);
      world.postgres?.freeze();
      await delay(2000);
      world.postgres?.thaw();
      await isReady(stage);
    },
  },
  {
    id: 'S2',
    title: 'Postgres ends all sessions, again and again',
    world: { store: 'postgres' },
    missing: noPostgres,
    shows: ['I1', 'I3', 'I5'],
    async play(stage) {
      for (let times = 0; times < 6; times += 1) {
        await stage.world.postgres?.ask(
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'faults'",
        );
        await delay(stage.dice.between(200, 600));
      }
      await isReady(stage);
    },
  },
  {
    id: 'S3',
    title: 'commits are done and the answers to them lost',
    world: { store: 'postgres' },
    missing: noPostgres,
    shows: ['I1', 'I3', 'I4', 'I5'],
    async play(stage) {
      const [way] = stage.world.paths;
      for (let times = 0; times < 6; times += 1) {
        way?.loseCommits(1);
        await delay(stage.dice.between(200, 600));
      }
      way?.loseCommits(0);
      stage.expect((way?.lost() ?? 0) > 0, 'no answer was lost');
      stage.note(`${way?.lost()} answers to commits were lost`);
      await isReady(stage);
    },
  },
  {
    id: 'S4',
    title: 'Redis forgets everything, is killed, and starts again empty',
    world: { redis: true },
    missing: noRedis,
    shows: ['I1', 'I3', 'I4', 'I13'],
    async play({ world, dice, note }) {
      await world.redis?.ask('FLUSHALL');
      await delay(dice.between(100, 500));
      await world.redis?.kill();
      note('Redis is killed');
      await delay(dice.between(1000, 2500));
      await world.redis?.start();
      world.redis?.freeze();
      await delay(1500);
      world.redis?.thaw();
    },
  },
  {
    id: 'S6',
    title: 'the disk is full',
    world: { disk: 256 },
    missing: noDisk,
    shows: ['I1', 'I3', 'I13'],
    async play(stage) {
      const file = join(stage.world.base, 'n1', 'data', 'filling');
      const opened = openSync(file, 'w');
      const fill = (block: Buffer): void => {
        try {
          for (;;) writeSync(opened, block);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        }
      };
      fill(Buffer.alloc(1_000_000));
      fill(Buffer.alloc(1000));
      await delay(2500);
      closeSync(opened);
      rmSync(file);
      await isReady(stage);
    },
  },
  {
    id: 'S6r',
    title: 'the files of conversations can only be read',
    missing: noDisk,
    shows: ['I1', 'I3', 'I13'],
    async play(stage) {
      const { world, expect } = stage;
      const directory = join(world.base, 'n1', 'data', 'workspaces');
      execFileSync('mount', ['--bind', directory, directory]);
      try {
        execFileSync('mount', ['-o', 'remount,bind,ro', directory]);
        await delay(2500);
        const status = await readyz(world.first);
        expect(status === 503, `the server said ${status} though it could keep no files`);
      } finally {
        execFileSync('umount', ['-l', directory]);
      }
      await isReady(stage);
    },
  },
  {
    id: 'S8',
    title: 'the last line of a transcript is cut, and another is there twice',
    shows: ['I3', 'I6'],
    async play(stage) {
      const { world, watch, load, expect } = stage;
      const scene = load.scene('alpha', 'S8');
      const [id, mine] = [scene.word().replace('fault', 'talk'), scene.word()];
      const body = { prompt: promptFor(mine, { do: 'say' }), permission_mode: 'readOnly', timeout: 120 };
      await scene.caller.insist(starting(id, mine, body));
      scene.talk(id);
      const { back } = await watch.kill(world.first);
      const session = `(select sdk_session from conversations where id = '${id}')`;
      const last = `(select max(position) from transcripts where session = ${session} and subpath = '')`;
      const before = await world.rows(`select position from transcripts where session = ${session}`);
      expect(before.length > 2, `the transcript has ${before.length} lines`);
      await world.change(
        `update transcripts set entry = substr(entry, 1, length(entry) / 2) where session = ${session} and subpath = '' and position = ${last}`,
      );
      await world.change(
        `insert into transcripts select tenant, session, subpath, position + 1000, uuid, entry from transcripts where session = ${session} and subpath = '' and position = ${last} - 1`,
      );
      await world.first.start();
      back();
      const word = scene.word();
      const message = { session_id: id, message: promptFor(word, { do: 'say' }) };
      const next = await scene.caller.insist({
        what: 'continue',
        path: `conversation/${id}/continue`,
        body: message,
        conversation: id,
        word,
        key: word,
      });
      expect(
        next.status === 200 && next.received.includes('end_turn'),
        `the conversation did not go on: ${next.status} ${next.received.slice(0, 300)}`,
      );
    },
  },
  {
    id: 'A1',
    title: 'the audit log cannot be written',
    world: { store: 'postgres' },
    missing: noPostgres,
    shows: ['I9', 'I16'],
    async play(stage) {
      const { world } = stage;
      const full = "raise exception using errcode = '53100', message = 'there is no room for the audit log'";
      await world.change(`create function audit_down() returns trigger language plpgsql as $$ begin ${full}; end $$`);
      await world.change('create trigger audit_down before insert on audit for each row execute function audit_down()');
      const isBack = undecidable(stage, 'the audit log was down');
      await delay(4000);
      isBack();
      await world.change('drop trigger audit_down on audit');
    },
  },
];
