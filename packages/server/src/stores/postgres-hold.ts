import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { SallyportError } from '../engine/errors.ts';
import { Sockets } from './postgres-sockets.ts';

/** Says that one service alone uses a database. */
export interface Hold {
  /** Throws `not_ready` while it is not sure, as when the connection that holds the database is lost. */
  check(): void;
  release(): Promise<void>;
}

/** Name of the lock, one for each database. */
const lock = '6017362836154384';

const retryMs = 500;

/**
 * Takes the database for this service alone, until `release` or the end of the process, however it ends: a lock of a
 * session, which is taken again when its connection is lost. Rejects in one line when another service still has it after
 * `waitMs`: one that was killed just before lets go within that.
 *
 * That one service uses a database is a limit of today: at its start it takes up every turn without an end, which may be
 * another one's. What replaces this has to say whose turn each is (`takeUnfinished`, `releaseEnded`).
 */
export async function holdDatabase(config: pg.ClientConfig, waitMs: number): Promise<Hold> {
  const sockets = new Sockets();
  const connect = () => lockedClient(config, sockets, waitMs);
  let client = await connect();
  const state = { held: true, released: false };

  const watch = () => {
    const watched = client;
    const lost = () => {
      if (!state.held || watched !== client) return;
      state.held = false;
      void regain();
    };
    client.on('error', lost);
    client.on('end', lost);
  };
  const regain = async () => {
    // What is left of the last one must not hold the lock against this one.
    await sockets.end(client);
    while (!state.released && !state.held) {
      try {
        client = await connect();
        state.held = true;
        watch();
      } catch {
        await sleep(retryMs, undefined, { ref: false });
      }
    }
    if (state.released) await sockets.end(client);
  };
  watch();
  return {
    check() {
      if (!state.held) throw new SallyportError('not_ready', { cause: lostHold() });
    },
    async release() {
      state.released = true;
      state.held = false;
      await sockets.end(client);
    },
  };
}

/** Counts as a lost connection: writes wait for it. */
const lostHold = () =>
  Object.assign(new Error('the connection that holds the database for this service is lost'), { code: 'ECONNRESET' });

async function lockedClient(config: pg.ClientConfig, sockets: Sockets, waitMs: number): Promise<pg.Client> {
  const client = new pg.Client({ ...config, stream: sockets.make, idle_in_transaction_session_timeout: 0 });
  // Until somebody watches it; without a listener its loss would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    // A machine that is gone says nothing: the server finds out within half a minute.
    await client.query('set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 4');
    await client.query(`set idle_session_timeout = 0; set lock_timeout = ${waitMs}`);
    await client.query('select pg_advisory_lock($1)', [lock]);
    return client;
  } catch (error) {
    await sockets.end(client);
    if ((error as { code?: unknown }).code !== '55P03') throw error;
    throw new Error('another service uses it; a database serves one service at a time', { cause: error });
  }
}
