import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { never, order, startRunner, TestHost, until, type TestRunner } from './runner-support.ts';

const setting = leftOut('runs in a jail', ['bwrap', 'socat']) ? 'none' : 'bwrap';
const runs = 500;
const canaryOf = (number: number): string => `canary-${number}-yranac`;

/** The canaries that a text holds. */
const canariesIn = (text: string): Set<string> => new Set(text.match(/canary-\d+-yranac/g));

/** All that is written in the config directory of the one process, and in what it sees as temporary. */
async function filesOf({ runner, runDir }: TestRunner): Promise<string> {
  const [live] = runner.processes();
  assert.ok(live);
  const config = join(runDir, 'jails', live.id, 'config');
  const slot = join(runDir, 'jails', live.id, 'slot');
  const temporary =
    setting === 'bwrap' && process.getuid?.() === 0 ? [`/proc/${await innermost(live.pid)}/root/tmp`] : [];
  const texts: string[] = [];
  for (const directory of [config, slot, ...temporary]) {
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
      texts.push(entry.name);
      if (entry.isFile()) texts.push(await readFile(join(entry.parentPath, entry.name), 'latin1'));
    }
  }
  return texts.join('\n');
}

async function innermost(pid: number): Promise<number> {
  const [child] = (await readFile(`/proc/${pid}/task/${pid}/children`, 'latin1')).trim().split(' ');
  return child === undefined || child === '' ? pid : await innermost(Number(child));
}

/** What a run does: it is given a file, writes one, looks for all there are, and answers. */
function play({ simulator }: TestRunner, canary: string): void {
  const given = { name: 'Read', input: { file_path: `given-${canary}.txt` } };
  const written = { name: 'Write', input: { file_path: `made-${canary}.txt`, content: canary } };
  const found = { name: 'Grep', input: { pattern: 'canary', output_mode: 'content' } };
  const listed = { name: 'Glob', input: { pattern: '**/*' } };
  simulator.play({ steps: [{ tools: [given, written, found, listed] }, { text: `answer ${canary}` }] });
}

test(
  'of 500 runs, one after the other in the same process, none meets anything of another',
  { timeout: 600_000 },
  async (t) => {
    const one = await startRunner(t, { steps: [] }, { setting, sessions: runs + 1, memoryBytes: Infinity });
    const pids = new Set<number>();
    for (let number = 1; number <= runs; number += 1) {
      const canary = canaryOf(number);
      play(one, canary);
      const host = new TestHost();
      let used = 0;
      host.ended = async () => {
        for (const { pid, sessions } of one.runner.processes()) {
          pids.add(pid);
          used = sessions;
        }
      };
      const asked = order({
        prompt: `prompt ${canary}`,
        files: [{ path: `given-${canary}.txt`, content: canary }],
        keepFiles: number % 2 === 0,
        profile: {
          tools: ['Read', 'Write', 'Grep', 'Glob'],
          permissionMode: number % 3 === 0 ? 'strict' : 'acceptEdits',
        },
      });
      const end = await one.runner.run(asked, host, never);
      assert.deepEqual([end.reason, end.failure, host.text], ['end_turn', null, `answer ${canary}`]);
      assert.equal(end.calls.length, 2, 'what it is charged for');
      const own = new Set([canary]);
      const sent = one.simulator.requests.slice(-2).map(({ body }) => JSON.stringify(body));
      assert.deepEqual(canariesIn(sent.join('\n')), own);
      assert.deepEqual(canariesIn(JSON.stringify([host.events, host.deltas])), own);
      assert.deepEqual(canariesIn(JSON.stringify(one.transcripts.kept.get(`acme/${asked.sdkSession}`))), own);
      if (number % 50 !== 0) continue;
      await until(() => one.runner.processes().every(({ sessions }) => sessions > used));
      if (one.runner.processes().length > 0) assert.deepEqual(canariesIn(await filesOf(one)), new Set());
    }
    // One that was odd for a moment, as on a busy machine, is replaced.
    assert.ok(pids.size <= 3, `${pids.size} processes`);
    assert.equal((await readdir(one.keptDir)).length, runs / 2);
    assert.deepEqual(one.warnings, []);
  },
);
