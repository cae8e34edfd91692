import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { aDirectory } from './directory.ts';

/**
 * What becomes of the next commit: it is done and the answer is lost; it is lost itself; or it is lost and the server
 * believes the connection to be open.
 */
export const losses = ['the answer', 'the commit', 'the commit unseen'] as const;
export type Loss = (typeof losses)[number];

/** A socket between Postgres and its clients. */
export interface LossySocket {
  /** The directory it is in. */
  readonly directory: string;
  /** Loses so much with the next commit; with `forGood` nobody gets through after it until `repair`. */
  lose(what: Loss, forGood?: 'forGood'): void;
  /** Resolves when the loss has happened. */
  lost(): Promise<void>;
  repair(): void;
}

const commit = Buffer.from('Q\0\0\0\u000bcommit\0', 'latin1');

/** Listens as Postgres does, before the server that has this socket. */
export async function lossySocket(t: TestContext, socket: string): Promise<LossySocket> {
  const directory = aDirectory(t);
  let next: Loss | null = null;
  let forGood = false;
  let closed = false;
  let happened = Promise.withResolvers<void>();
  const open = new Set<Socket>();
  const pass = (client: Socket) => {
    if (closed) return void client.destroy();
    const server = connect(socket);
    for (const each of [client, server]) {
      open.add(each);
      each.on('error', () => undefined);
      each.on('close', () => open.delete(each));
    }
    const happens = () => {
      closed = forGood;
      if (closed) for (const each of open) if (each !== server && each !== client) each.destroy();
      client.destroy();
      happened.resolve();
    };
    let answer: 'passes' | 'is lost' | 'is not waited for' = 'passes';
    server.on('data', (chunk) => {
      if (answer === 'passes') return void client.write(chunk);
      if (answer === 'is not waited for') return;
      server.destroy();
      happens();
    });
    client.on('data', (chunk: Buffer) => {
      const loss = chunk.includes(commit) ? next : null;
      if (loss !== null) next = null;
      if (loss === null || loss === 'the answer') server.write(chunk);
      if (loss === null) return;
      answer = loss === 'the answer' ? 'is lost' : 'is not waited for';
      if (loss === 'the commit') server.destroy();
      if (loss !== 'the answer') happens();
    });
    server.on('end', () => client.end());
    client.on('end', () => server.end());
  };
  const listener = createServer(pass).listen(join(directory, '.s.PGSQL.5432'));
  await once(listener, 'listening');
  t.after(() => {
    for (const each of open) each.destroy();
    listener.close();
  });
  return {
    directory,
    lose(what, good) {
      next = what;
      forGood = good !== undefined;
      happened = Promise.withResolvers();
    },
    lost: () => happened.promise,
    repair: () => void (closed = false),
  };
}
