import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { inBatches } from '../../support/runs.ts';
import type { Fault } from '../fault.ts';
import { raw } from './steps.ts';

/** The first that comes. */
const firstOf = (socket: Socket): Promise<string> =>
  new Promise((resolve) => socket.once('data', (chunk: Buffer) => resolve(chunk.toString('latin1'))));

export const wireFaults: Fault[] = [
  {
    id: 'C9',
    title: 'bodies that are too large, endless, deep, or none',
    shows: ['I13'],
    async play(stage) {
      const { caller } = stage.load.scene('alpha', 'C9');
      const deep = (): object => JSON.parse(`${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`) as object;
      const bodies: object[] = [
        { prompt: 'x'.repeat(20_000_000) },
        { prompt: 'x', metadata: deep() },
        JSON.parse('{"prompt":"x","__proto__":{"role":"admin"}}') as object,
        { prompt: 'x'.repeat(10_001) },
        {},
        [],
      ];
      for (const body of bodies) {
        const { status, outcome } = await caller.ask({ what: 'wrong', path: 'query', body });
        stage.expect(
          outcome === 'unknown' || (status !== null && status >= 400 && status < 500),
          `a senseless body gave ${status}`,
        );
      }
      const endless = await raw(stage, 'alpha', '/api/claude/query', 'POST', '{"prompt":"');
      for (let sent = 0; sent < 100 && !endless.destroyed; sent += 1) endless.write('x'.repeat(10_000));
      endless.destroy();
    },
  },
  {
    id: 'C13',
    title: 'WebSockets with frames that are none, too large, or not masked',
    shows: ['I12', 'I13'],
    async play(stage) {
      const key = 'dGhlIHNhbXBsZSBub25jZQ==';
      const frames: Buffer[] = [
        Buffer.from([0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]), // Not masked.
        Buffer.from([0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), // Of endless length.
        Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]), // No UTF-8.
        Buffer.from([0x83, 0x80, 0, 0, 0, 0]), // Of an unknown kind.
        Buffer.concat(Array.from({ length: 3000 }, () => Buffer.from([0x89, 0x80, 0, 0, 0, 0]))), // Pings.
        Buffer.from([0x82, 0x84, 0, 0, 0, 0, 1, 2, 3, 4]), // Binary.
      ];
      await inBatches(
        10,
        Array.from({ length: 60 }, (_, index) => frames[index % frames.length] as Buffer),
        async (frame) => {
          const { hostname, port } = new URL(stage.world.serving.url);
          const socket = connect(Number(port), hostname);
          socket.on('error', () => undefined);
          const head = [
            `GET /ws/c13 HTTP/1.1`,
            `host: ${hostname}:${port}`,
            `authorization: Bearer ${stage.world.keys['bravo']}`,
            'connection: upgrade',
            'upgrade: websocket',
            `sec-websocket-key: ${key}`,
            'sec-websocket-version: 13',
          ];
          socket.write(`${head.join('\r\n')}\r\n\r\n`);
          const answer = await Promise.race([firstOf(socket), delay(5000, '')]);
          stage.expect(answer.startsWith('HTTP/1.1 101'), `an upgrade gave ${answer.slice(0, 40)}`);
          socket.write(frame);
          await delay(200);
          socket.destroy();
        },
      );
    },
  },
];
