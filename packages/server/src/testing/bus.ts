import { deepStrictEqual, ok } from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { until } from '../../../../test/support/runs.ts';
import type { Bus } from '../engine/ports.ts';
import { awkwardJson, declare, type Promises } from './contract.ts';

/** What every `Bus` promises, also one of a node that is alone. */
export function busContract(make: (t: TestContext) => Promise<Bus>): void {
  declare('bus', alone, make);
}

/** What every `Bus` between nodes promises. `make` gives those of three nodes. */
export function sharedBusContract(make: (t: TestContext) => Promise<[Bus, Bus, Bus]>): void {
  declare('bus between nodes', together, make);
}

let probes = 0;

/** Listens to a channel, and gives all that has come but probes. Resolves when what the senders publish comes there. */
export async function listening(bus: Bus, channel: string, senders: readonly Bus[]) {
  const came: string[] = [];
  const heard = new Set<string>();
  const stop = bus.subscribe(channel, (message) => {
    if (message.startsWith('probe ')) heard.add(message);
    else came.push(message);
  });
  /** Resolves when a new message of a sender has come, and with it all that the sender had published before. */
  const after = async (sender: Bus) => {
    const sent: string[] = [];
    await until(() => {
      if (sent.some((text) => heard.has(text))) return true;
      sent.push(`probe ${(probes += 1)}`);
      sender.publish(channel, sent.at(-1)!);
      return false;
    });
  };
  for (const sender of senders) await after(sender);
  return { came, stop, after };
}

const alone: Promises<Bus> = {
  'what a node publishes does not come back to it, and publishing never throws': async (bus) => {
    const came: string[] = [];
    const stop = bus.subscribe('a', (message) => came.push(message));
    for (let count = 0; count < 100; count += 1) bus.publish('a', `message ${count}`);
    stop();
    stop();
    bus.publish('a', 'after');
    deepStrictEqual(came, []);
  },

  'what listens for gaps can be taken away, also twice': async (bus) => {
    const stop = bus.onGap(() => undefined);
    stop();
    stop();
  },
};

const together: Promises<[Bus, Bus, Bus]> = {
  'what a node publishes comes to all others that listen, whole and in order, and not to itself': async ([a, b, c]) => {
    const [atA, atB, atC] = await Promise.all([
      listening(a, 'news', [b]),
      listening(b, 'news', [a]),
      listening(c, 'news', [a, b]),
    ]);
    const json = awkwardJson.map((value) => JSON.stringify(value)).filter(({ length }) => length < 100_000);
    const texts = [...json, '', ' ', '\n', 'a b', 'é👩‍👩‍👧\0', 'x'.repeat(1_000_000)];
    for (let count = 0; count < 500; count += 1) texts.push(`${count}`);
    for (const text of texts) a.publish('news', text);
    for (const end of [atB, atC]) {
      await end.after(a);
      ok(end.came.length === texts.length && end.came.every((text, index) => text === texts[index]));
    }
    // What comes from another node comes after what it had sent to itself.
    await atA.after(b);
    deepStrictEqual(atA.came, []);
  },

  'channels with a common beginning share nothing': async ([a, b]) => {
    const channels = [
      'a',
      'a:',
      'a:b',
      'ab',
      '',
      'of:a',
      'lost',
      '__proto__',
      'constructor',
      '*',
      'a*',
      'x'.repeat(500),
    ];
    const ends = new Map<string, Awaited<ReturnType<typeof listening>>>();
    for (const channel of channels) ends.set(channel, await listening(b, channel, [a]));
    for (const channel of channels) a.publish(channel, channel);
    for (const [channel, { after, came }] of ends) {
      await after(a);
      deepStrictEqual(came, [channel]);
    }
  },

  'each who listens gets a message once, until it stops, and one that throws keeps nobody from it': async ([a, b]) => {
    const counts = [0, 0, 0];
    const twice = () => (counts[0]! += 1);
    const stops = [b.subscribe('news', twice), b.subscribe('news', twice)];
    const failing = b.subscribe('news', () => {
      counts[1]! += 1;
      throw new Error('a listener that fails');
    });
    const end = await listening(b, 'news', [a]);
    counts.fill(0);
    a.publish('news', 'one');
    await until(() => end.came.includes('one'));
    const [first] = counts;
    deepStrictEqual(counts, [first, first! / 2, 0]);
    stops[0]!();
    stops[0]!();
    failing();
    counts.fill(0);
    a.publish('news', 'two');
    await until(() => end.came.includes('two'));
    deepStrictEqual(counts, [1, 0, 0]);
    stops[1]!();
    end.stop();
    const last = await listening(b, 'news', [a]);
    deepStrictEqual(counts, [1, 0, 0]);
    last.stop();
  },

  'whoever comes and goes at any speed gets what is published once it listens': async ([a, b]) => {
    for (let round = 0; round < 30; round += 1) {
      const stops = Array.from({ length: round % 5 }, () => b.subscribe('news', () => undefined));
      if (round % 3 === 0) b.subscribe('news', () => undefined)();
      for (const stop of stops) stop();
      if (round % 4 > 0) continue;
      const end = await listening(b, 'news', [a]);
      a.publish('news', `round ${round}`);
      await end.after(a);
      ok(end.came.includes(`round ${round}`));
      end.stop();
    }
  },
};
