import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from './clock.ts';
import type { EngineParts } from './engine.ts';
import { LiveLogs } from './live.ts';
import type { LiveProcess } from './ports.ts';
import type { RunningTurns } from './running.ts';
import { Sweeper } from './sweeper.ts';

const logger = { info() {}, warn: assert.fail, error: assert.fail };

const processOf = (state: LiveProcess['state'], conversation: string): LiveProcess =>
  ({
    state,
    order: { ref: { tenant: 'acme', conversation, turn: 't', epoch: 1 }, sdkSession: `session of ${conversation}` },
  }) as unknown as LiveProcess;

/** A sweeper over stores in which conversations have these states, and the sessions that it frees. */
function sweeping(shared: boolean, processes: LiveProcess[], states: Readonly<Record<string, string>>) {
  const freed: string[] = [];
  const parts = {
    clock: systemClock,
    logger,
    conversationTtlSeconds: 60,
    retentionDays: 1,
    lease: { node: 'node', shared, look: async () => {} },
    turns: { ofNode: async () => [], sweepClaims: async () => {} },
    budgets: { releaseEnded: async () => {} },
    conversations: {
      endIdle: async () => [],
      listEnded: async () => [],
      get: async (_tenant: string, id: string) => (states[id] === undefined ? null : { status: states[id] }),
    },
    runner: { processes: () => processes, free: async (_tenant: string, session: string) => freed.push(session) },
  };
  const running = { settle: async () => {}, has: () => false };
  const sweeper = new Sweeper(parts as unknown as EngineParts, new LiveLogs(), running as unknown as RunningTurns);
  return { sweeper, freed };
}

test('a process that waits for a conversation which another node has ended or deleted is ended', async () => {
  const processes = [
    processOf('idle', 'deleted'),
    processOf('idle', 'ended'),
    processOf('idle', 'goes on'),
    processOf('running', 'just begun'),
    processOf('cleared', 'of a one-shot'),
    { ...processOf('spare', ''), order: null },
  ];
  const states = { ended: 'ended', 'goes on': 'idle' };
  const several = sweeping(true, processes, states);
  await several.sweeper.sweep();
  assert.deepEqual(several.freed, ['session of deleted', 'session of ended']);
  const alone = sweeping(false, processes, states);
  await alone.sweeper.sweep();
  assert.deepEqual(alone.freed, []);
});
