import { setTimeout as delay } from 'node:timers/promises';
import { administer, makeKey } from '../../support/admin.ts';
import { marksFile, promptFor } from '../brain.ts';
import { Caller } from '../caller.ts';
import type { Fault, Stage } from '../fault.ts';
import type { Operation } from '../history.ts';
import type { Scene } from '../scenarios.ts';
import { runningAgents, starting, waitFor } from './steps.ts';

const asking = { permission_mode: 'askForEdits', allowed_tools: ['Bash'], timeout: 120 };

interface Asked {
  id: string;
  word: string;
  approval: string;
  /** The end of the start, which waits for the human. */
  ends: Promise<Operation>;
}

/** Begins a conversation whose command a human has to allow, and waits until it is asked for. */
async function askedFor(stage: Stage, scene: Scene): Promise<Asked> {
  const [id, mine] = [scene.word().replace('fault', 'talk'), scene.word()];
  scene.talk(id);
  scene.gate(mine);
  const body = { prompt: promptFor(mine, { do: 'run' }), ...asking, project_path: await scene.project() };
  const ends = scene.caller.ask({
    ...starting(id, mine, body),
    streams: true,
  });
  const rows = await waitFor(
    () => stage.world.rows(`select id from approvals where conversation = '${id}'`),
    (found) => found.length > 0,
  );
  stage.expect(rows.length === 1, 'nobody was asked');
  return { id, word: mine, approval: String(rows[0]?.['id']), ends };
}

const decided = ({ caller }: Scene, { approval, id, word }: Asked, decision: object): Promise<Operation> =>
  caller.insist({ what: 'decide', path: `approvals/${approval}`, body: decision, conversation: id, word });

/** Kills the server and starts it again. */
async function restart({ watch, world }: Stage): Promise<void> {
  const { back } = await watch.kill(world.first);
  await world.first.start();
  back();
}

const endOf = async ({ world }: Stage, word: string): Promise<string> => {
  const rows = await waitFor(
    () => world.rows(`select result from turns where request like '%${word}%' and ended_at is not null`),
    (found) => found.length > 0,
    60_000,
  );
  return String((JSON.parse(String(rows[0]?.['result'] ?? '{}')) as Record<string, unknown>)['stop_reason']);
};

const hourMs = 3_600_000;

export const limitFaults: Fault[] = [
  {
    id: 'K1',
    title: 'an approval waits while the server is killed, and is decided after it',
    shows: ['I1', 'I5', 'I14'],
    async play(stage) {
      const scene = stage.load.scene('alpha', 'K1');
      const waiting = await askedFor(stage, scene);
      for (let times = 0; times < 2; times += 1) await restart(stage);
      await waiting.ends;
      const { received } = await scene.caller.insist({ what: 'read', path: `approvals/${waiting.approval}` });
      stage.expect(received.includes('"pending"'), `the approval does not wait any more: ${received.slice(0, 200)}`);
      const { status } = await decided(scene, waiting, { decision: 'allow' });
      stage.expect(status === 200, `the decision gave ${status}`);
      stage.note(`its turn ended with ${await endOf(stage, waiting.word)}`);
    },
  },
  {
    id: 'K2',
    title: 'an approval is allowed, denied, changed and cancelled at once',
    shows: ['I3', 'I5', 'I14'],
    async play(stage) {
      const scene = stage.load.scene('bravo', 'K2');
      for (let times = 0; times < 6; times += 1) {
        const waiting = await askedFor(stage, scene);
        const command = `echo "${waiting.word} $(date +%s%N)" >> ./${marksFile}`;
        const decisions = [
          { decision: 'allow' },
          { decision: 'deny' },
          { decision: 'allow', updated_input: { command } },
        ];
        const cancel = () =>
          scene.caller.ask({
            what: 'cancel',
            path: `conversation/${waiting.id}/interrupt`,
            method: 'POST',
            conversation: waiting.id,
            word: waiting.word,
          });
        const all = await Promise.all([
          ...decisions.slice(stage.dice.between(0, 2)).map((decision) => decided(scene, waiting, decision)),
          ...(stage.dice.chance(0.3) ? [cancel()] : []),
        ]);
        const taken = all.filter(({ what, status }) => what === 'decide' && status === 200).length;
        stage.expect(taken <= 1, `${taken} decisions of one approval were taken`);
        await waiting.ends;
        // Decided once, it is decided for good.
        const again = await decided(scene, waiting, { decision: 'allow' });
        stage.expect(again.code === 'already_decided', `another decision gave ${again.status}`);
      }
    },
  },
  {
    id: 'B1',
    title: 'parallel turns at the end of a budget, some of which lose their process',
    shows: ['I8', 'I13'],
    async play(stage) {
      const { world, history, expect } = stage;
      const [tenant, day] = ['charlie', 0.3] as const;
      await administer(world.first, 'POST', 'tenants', { id: tenant });
      await administer(world.first, 'PATCH', `tenants/${tenant}`, { budgets: { day } });
      world.keys[tenant] = await makeKey(world.first, { tenant, name: 'web' });
      world.budgets = { ...world.budgets, [tenant]: day };
      const scene = stage.load.scene(tenant, 'B1');
      const caller = new Caller(world, history, tenant, stage.dice);
      let isExhausted = false;
      for (let rounds = 0; rounds < 12 && !isExhausted; rounds += 1) {
        const round = Array.from({ length: 8 }, () => {
          const mine = scene.word();
          const body = { prompt: promptFor(mine, { do: 'say' }), permission_mode: 'readOnly', timeout: 120 };
          return caller.ask({ what: 'query', path: 'query', body, word: mine });
        });
        await delay(stage.dice.between(300, 900));
        const [victim] = await runningAgents(world.first);
        if (victim !== undefined) process.kill(victim, 'SIGKILL');
        isExhausted = (await Promise.all(round)).some(
          ({ code, received }) => code === 'budget_exhausted' || received.includes('max_budget'),
        );
      }
      expect(isExhausted, 'the budget was never used up');
    },
  },
  {
    id: 'T1',
    title: 'the clock jumps back by an hour, and forth again',
    // One that nobody spoke in for an hour, as the clock has it, has ended.
    world: { env: { SALLYPORT_CONVERSATION_TTL: String((24 * hourMs) / 1000) } },
    shows: ['I3', 'I4', 'I9'],
    longestTurnMs: 2 * hourMs,
    async play({ world, note }) {
      await world.first.evaluate(
        `(() => { const real = Date.now; Date.now = () => real() - ${hourMs}; globalThis.realNow = real; })()`,
      );
      note('the clock is back by an hour');
      await delay(4000);
      await world.first.evaluate('(() => { Date.now = globalThis.realNow; })()');
    },
  },
];
