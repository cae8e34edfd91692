import { setTimeout as delay } from 'node:timers/promises';
import type { Fault as UpstreamFault, Step } from '@sallyport/simulator';
import type { Disturb } from '../brain.ts';
import type { Fault, Stage } from '../fault.ts';
import type { Invariant } from '../checks/all.ts';
import { waitFor } from './steps.ts';

const shows: readonly Invariant[] = ['I3', 'I4', 'I8', 'I13'];
/** How long the upstream stays so; and how long it is waited for a first call that it can fail. */
const lengthMs = 4000;
const longestMs = 120_000;

/** Disturbs such a share of the steps for a while, but one at least. Which ones follows from the dice; a repeat of a step is the same step. */
async function disturbed(
  { world, dice, note, expect }: Stage,
  share: number,
  by: (attempt: number) => Partial<Step> | null,
  milliseconds = lengthMs,
): Promise<void> {
  let struck = 0;
  const disturb: Disturb = (_request, { attempt }) => {
    if (attempt === 1 && !dice.chance(share)) return null;
    const step = by(attempt);
    if (step !== null) struck += 1;
    return step;
  };
  world.disturb = disturb;
  await delay(milliseconds);
  await waitFor(
    async () => struck,
    (count) => count > 0,
    longestMs,
  );
  world.disturb = () => null;
  note(`${struck} calls of the model were disturbed`);
  expect(struck > 0, 'no call of the model was disturbed');
}

const always = (fault: UpstreamFault) => (): Partial<Step> => ({ fault });

/** Fails so often, then answers. */
const times =
  (most: number, fault: UpstreamFault) =>
  (attempt: number): Partial<Step> | null =>
    attempt <= most ? { fault } : null;

/** After the upstream is whole again, a new query is answered. */
async function answersAgain({ load, world, expect }: Stage, id: string): Promise<void> {
  world.disturb = () => null;
  // A breaker that is open lets a first call through after some seconds.
  const { caller, word } = load.scene('bravo', `after ${id}`);
  const mine = word();
  const body = { prompt: `My word is ${mine}. The task is {"do":"say"}`, permission_mode: 'readOnly', timeout: 120 };
  const answer = await caller.insist({ what: 'query', path: 'query', body, word: mine, key: mine });
  expect(answer.status === 200, `a query after the fault gave ${answer.status}`);
}

/** What clients were told since, by code. */
const codesOf = ({ history }: Stage, since: number): Set<string> =>
  new Set(
    history.operations
      .filter(({ number, what }) => number > since && what !== 'wrong')
      .flatMap(({ code, events }) => [
        code ?? '',
        ...events.map(({ event }) => ('code' in event ? (event.code ?? '') : '')),
      ]),
  );

const simple = (id: string, title: string, share: number, fault: UpstreamFault, most = Infinity): Fault => ({
  id,
  title,
  shows,
  async play(stage) {
    await disturbed(stage, share, most === Infinity ? always(fault) : times(most, fault));
    await answersAgain(stage, id);
  },
});

export const upstreamFaults: Fault[] = [
  simple('U1', 'the upstream is overloaded twice, then answers', 0.5, { kind: 'status', status: 529 }, 2),
  {
    id: 'U2',
    title: 'the upstream is overloaded and stays so',
    shows,
    world: { env: { SALLYPORT_UPSTREAM_BREAKER_CALLS: '5' } },
    async play(stage) {
      const { world, expect } = stage;
      const before = world.simulator.requests.length;
      const since = stage.history.operations.length;
      await disturbed(stage, 1, always({ kind: 'status', status: 529, retry_after: 1 }), 6000);
      const calls = world.simulator.requests.length - before;
      const asked = stage.history.operations.length - since;
      expect(calls <= 10 * (asked + 8), `${calls} calls of the upstream for ${asked} operations`);
      await answersAgain(stage, 'U2');
    },
  },
  simple('U3', 'the upstream limits the rate', 0.6, { kind: 'status', status: 429, retry_after: 1 }, 1),
  {
    id: 'U4',
    title: 'the upstream fails, refuses connections, and cuts answers',
    shows,
    async play(stage) {
      const kinds: UpstreamFault[] = [
        { kind: 'status', status: 500 },
        { kind: 'status', status: 502 },
        { kind: 'status', status: 503 },
        { kind: 'refuse' },
        { kind: 'cut', after_chars: 20 },
      ];
      await disturbed(stage, 0.7, () => ({ fault: stage.dice.pick(kinds), fault_times: stage.dice.between(1, 6) }));
      await answersAgain(stage, 'U4');
    },
  },
  {
    id: 'U5',
    title: 'the upstream refuses what it is sent',
    shows,
    async play(stage) {
      const since = stage.history.operations.length;
      await disturbed(stage, 0.6, () => ({
        fault: { kind: 'status', status: stage.dice.pick([400, 401, 402, 403] as const) },
      }));
      await answersAgain(stage, 'U5');
      const codes = codesOf(stage, since);
      stage.expect(
        !codes.has('invalid_key') && !codes.has('unauthenticated'),
        "the upstream's refusal was shown as one of the caller's key",
      );
    },
  },
  {
    id: 'U7',
    title: 'the upstream hangs before it begins an answer',
    shows,
    world: { env: { SALLYPORT_UPSTREAM_FIRST_BYTE_SECONDS: '2' } },
    async play(stage) {
      await disturbed(stage, 0.5, always({ kind: 'hang' }));
      await answersAgain(stage, 'U7');
    },
  },
  {
    id: 'U8',
    title: 'the upstream falls silent, and clients leave',
    shows: [...shows, 'I12'],
    world: { env: { SALLYPORT_UPSTREAM_SILENCE_SECONDS: '3' } },
    async play(stage) {
      await disturbed(stage, 0.6, always({ kind: 'stall', after_chars: 30 }));
      await answersAgain(stage, 'U8');
    },
  },
  {
    id: 'U9',
    title: 'answers are cut off without an end, or end in an error',
    shows,
    async play(stage) {
      const kinds: UpstreamFault[] = [
        { kind: 'no_message_stop' },
        { kind: 'error_event', after_chars: 25 },
        { kind: 'garbage' },
      ];
      await disturbed(stage, 0.7, () => ({ fault: stage.dice.pick(kinds), fault_times: stage.dice.between(1, 5) }));
      await answersAgain(stage, 'U9');
    },
  },
  simple('U10', 'answers come one byte at a time', 0.7, { kind: 'slow_bytes' }),
  simple('U11', 'answers hold unknown events and senseless usage', 0.7, { kind: 'unknown_events' }),
];
