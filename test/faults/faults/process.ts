import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { processesWith } from '../../support/processes.ts';
import { promptFor } from '../brain.ts';
import type { Fault, Stage } from '../fault.ts';
import type { ServerNode } from '../node.ts';
import type { Scene } from '../scenarios.ts';
import { readyz, runningAgents, starting, waitFor } from './steps.ts';

const unasked = { permission_mode: 'acceptEdits', allowed_tools: ['Bash'], timeout: 60 };

/** Kills the server and starts it again on the same data. */
async function killAndStart({ watch, world, note }: Stage, pauseMs = 0): Promise<void> {
  const { back } = await watch.kill(world.first);
  await delay(pauseMs);
  await world.first.start();
  back();
  note('killed and started again');
}

/** Sends a signal to processes of Claude Code that are in a state, all or one of them; gives those that it reached. */
async function strike(
  { world, dice, note }: Stage,
  signal: NodeJS.Signals,
  which: { state: string; all?: true } = { state: 'running' },
): Promise<number[]> {
  const reached = await waitFor(
    async () => {
      const found = await runningAgents(world.first, which.state);
      const wanted = which.all || found.length === 0 ? found : [dice.pick(found)];
      return wanted.filter((pid) => sent(pid, signal));
    },
    (pids) => pids.length > 0,
  );
  note(`${signal} for ${reached.join(', ')}`);
  return reached;
}

/** True when the process was still there. */
function sent(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** Asks the server to stop, and notes that nothing answers until `back`. */
async function stopping(
  { watch }: Stage,
  node: ServerNode,
  signals: number,
): Promise<{ code: number | string; ms: number; back(): void }> {
  const before = await watch.processesOf(node);
  const outage = { from: Date.now(), to: Number.MAX_SAFE_INTEGER, what: `${node.name} was stopped` };
  watch.outages.push(outage);
  const since = performance.now();
  for (let sent = 0; sent < signals; sent += 1) {
    node.signal('SIGTERM');
    await delay(500);
  }
  if (signals === 1 && node.isRunning) await readyz(node);
  const code = await node.exited;
  watch.goes(node, before, 'its server was stopped');
  return { code, ms: performance.now() - since, back: () => (outage.to = Date.now()) };
}

/** Runs a command in a conversation of its own, which has to end. Gives its stop reason. */
async function runCommand(scene: Scene, command: string): Promise<string> {
  const [id, mine] = [scene.word().replace('fault', 'talk'), scene.word()];
  const body = { prompt: promptFor(mine, { do: 'command', command }), ...unasked };
  const { received } = await scene.caller.insist(starting(id, mine, body));
  return String((JSON.parse(received || '{}') as Record<string, unknown>)['stop_reason']);
}

const sleepers = async (seconds: string): Promise<number[]> =>
  (await processesWith(`sleep ${seconds}`)).map(({ pid }) => pid);

export const processFaults: Fault[] = [
  {
    id: 'P1',
    title: 'kill -9 of the server in mid-stream',
    shows: ['I1', 'I3', 'I4', 'I6', 'I7'],
    play: (stage) => killAndStart(stage, stage.dice.between(0, 500)),
  },
  {
    id: 'P2',
    title: 'kill -9 of Claude Code in mid-stream',
    shows: ['I3', 'I6', 'I7'],
    async play(stage) {
      for (let times = 0; times < 3; times += 1) {
        const reached = await strike(stage, 'SIGKILL');
        stage.expect(reached.length > 0, 'no process of Claude Code was at work');
        await delay(stage.dice.between(100, 800));
      }
    },
  },
  {
    id: 'P3',
    title: 'SIGSTOP of Claude Code',
    shows: ['I3', 'I7'],
    timeoutSeconds: 30,
    async play(stage) {
      const reached = await strike(stage, 'SIGSTOP');
      stage.expect(reached.length > 0, 'no process of Claude Code was at work');
      // Its turn has a time of its own, after which the process is ended although it does not listen.
    },
  },
  {
    id: 'P4',
    title: 'SIGTERM of the server with live turns',
    shows: ['I1', 'I3', 'I7'],
    async play(stage) {
      const { code, back } = await stopping(stage, stage.world.first, 1);
      stage.expect(code === 0, `the server ended with ${code}`);
      await stage.world.first.start();
      back();
    },
  },
  {
    id: 'P5',
    title: 'a second SIGTERM while the server drains',
    shows: ['I1', 'I3', 'I7'],
    async play(stage) {
      const { code, back } = await stopping(stage, stage.world.first, 2);
      stage.note(`it ended with ${code}`);
      await stage.world.first.start();
      back();
    },
  },
  {
    id: 'P6',
    title: 'Claude Code gets SIGTERM and loops on while its turn is cancelled',
    shows: ['I3', 'I7', 'I15'],
    async play(stage) {
      const scene = stage.load.scene('alpha', 'P6');
      const [id, mine] = [scene.word().replace('fault', 'talk'), scene.word()];
      const command = `trap "" TERM INT HUP; while :; do :; done`;
      const body = { prompt: promptFor(mine, { do: 'command', command }), ...unasked };
      const started = scene.caller.ask(starting(id, mine, body));
      const isRunning = await waitFor(
        () => stage.world.rows(`select type from events where conversation = '${id}' and type = 'tool_start'`),
        (rows) => rows.length > 0,
      );
      stage.expect(isRunning.length > 0, 'the loop did not begin');
      const cancel = await scene.caller.ask({
        what: 'cancel',
        path: `conversation/${id}/interrupt`,
        method: 'POST',
        conversation: id,
        word: mine,
      });
      stage.expect(cancel.status === 200, `the cancel gave ${cancel.status}`);
      await started;
    },
  },
  {
    id: 'P7',
    title: 'a tool leaves a process behind that has a session of its own',
    shows: ['I7'],
    async play(stage) {
      const seconds = `86398.${process.pid}`;
      const scene = stage.load.scene('bravo', 'P7');
      const reason = await runCommand(scene, `setsid sleep ${seconds} </dev/null >/dev/null 2>&1 & echo begun`);
      stage.note(`its turn ended with ${reason}`);
      const deleted = await stage.world.rows(`select conversation from turns where request like '%${seconds}%'`);
      stage.expect(deleted.length === 1, 'the command did not run');
      const conversation = String(deleted[0]?.['conversation']);
      await scene.caller.ask({ what: 'delete', path: `conversation/${conversation}`, method: 'DELETE', conversation });
      const left = await waitFor(
        () => sleepers(seconds),
        (pids) => pids.length === 0,
      );
      stage.expect(left.length === 0, `the process is left: ${left.join(', ')}`);
    },
  },
  {
    id: 'P9',
    title: 'a spare process dies',
    shows: ['I3', 'I7'],
    async play(stage) {
      const reached = await strike(stage, 'SIGKILL', { state: 'spare', all: true });
      stage.expect(reached.length > 0, 'there was no spare process');
    },
  },
  {
    id: 'P11',
    title: 'the server runs out of files, and so of processes',
    shows: ['I3', 'I13'],
    async play({ world, note }) {
      const { pid } = world.first;
      const limits = await readFile(`/proc/${pid}/limits`, 'utf8');
      const usual = /Max open files\s+(\d+)/u.exec(limits)?.[1] ?? '1024';
      const open = execFileSync('ls', [`/proc/${pid}/fd`], { encoding: 'utf8' }).split('\n').length;
      execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${open + 12}:`]);
      note(`at most ${open + 12} files`);
      await delay(3000);
      execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${usual}:`]);
    },
  },
];
