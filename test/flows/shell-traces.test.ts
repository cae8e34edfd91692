import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { call } from '../support/approvals.ts';
import { onGrounds, type Grounds } from '../support/canaries.ts';
import { commandStep, sleepSeconds, strict } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { play } from '../support/played.ts';
import { processesWith } from '../support/processes.ts';
import type { TestService } from '../support/service.ts';
import { worked } from '../support/shell.ts';
import { assertHeld, makeBaited, runAll } from '../support/shell-runs.ts';
import { bombs, daemons, gitTraps, killers } from '../support/shell-traces.ts';
import { next, start } from '../support/workspaces.ts';

/** Settings with which git takes anybody's repository. */
const trusting = { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'safe.directory', GIT_CONFIG_VALUE_0: '*' };

let service: TestService;
let grounds: Grounds;

describe('commands that would outlive their run', { skip: leftOut('jail', ['bwrap', 'socat', 'git']) }, () => {
  onGrounds((made) => ({ service, grounds } = made));

  test('set traps into which nobody walks', async () => {
    const project = await makeBaited(service, 'traps');
    const marks = async () => (await readdir(project)).filter((name) => name.startsWith('mark-'));
    await assertHeld(service, grounds, project, await runAll(service, project, gitTraps(project)));
    // What the commands set off themselves, in their sandbox, is theirs.
    for (const mark of await marks()) await rm(join(project, mark));
    await start(service, 'traps', [{ text: 'Done.' }], { project_path: project, instructions: true });
    for (const path of ['files', 'diff', 'messages']) await call(service, 'GET', `conversation/traps/${path}`);
    await next(service, 'traps', [{ text: 'Done.' }]);
    for (const [name, permission_mode] of ['readOnly', 'acceptEdits'].flatMap((mode) => [
      ['.', mode],
      ['repo', mode],
      ['other', mode],
    ])) {
      const read = { id: 'read', name: 'Read', input: { file_path: 'tracked.txt' } };
      const request = { ...strict, permission_mode, project_path: join(project, name ?? ''), instructions: true };
      const { returned } = await play(service, [{ tools: [read] }], request);
      assert.match(returned('read').text, /bait/u);
    }
    assert.deepEqual(await marks(), []);
    // The traps are set: whoever does not take care walks into them.
    const careless = { PATH: process.env['PATH'], HOME: '/nonexistent', ...trusting };
    execFileSync('git', ['-C', join(project, 'other'), 'status'], { env: careless, stdio: 'pipe' });
    assert.ok((await marks()).includes('mark-core.fsmonitor'));
    await grounds.assertUntouched([project]);
  });

  test('end no process but their own, and leave none behind', async (t) => {
    const project = await makeBaited(service, 'daemons');
    const seconds = sleepSeconds();
    const neighbour = spawn('sleep', [sleepSeconds()]);
    t.after(() => neighbour.kill('SIGKILL'));
    const commands = [...killers([neighbour.pid ?? 0, process.pid]), ...daemons(seconds)];
    await assertHeld(service, grounds, project, await runAll(service, project, commands));
    assert.deepEqual([neighbour.exitCode, neighbour.signalCode], [null, null]);
    assert.deepEqual(await processesWith(seconds), []);
  });

  test('that raise their bounds and multiply stay in them, and the service answers', async () => {
    const project = await makeBaited(service, 'bombs');
    const over = new AbortController();
    let [largest, answers] = [0, 0];
    const watch = async () => {
      while (!over.signal.aborted) {
        for (const { id } of service.sallyport.processes())
          largest = Math.max(largest, (await processesWith(`SALLYPORT_PROCESS=${id}`)).length);
        assert.equal((await fetch(`${service.url}/livez`)).status, 200);
        answers += 1;
      }
    };
    const watching = watch();
    try {
      for (const bomb of bombs) {
        const request = { ...strict, permission_mode: 'acceptEdits', project_path: project };
        const { body, calls } = await play(service, [commandStep('bomb', bomb)], request);
        // Claude Code shares the bounds of its commands, and may end by them, too.
        assert.ok(body['stop_reason'] === 'end_turn' || body['code'] === 'agent_crashed', JSON.stringify(body));
        const came = calls.flatMap((each) => each.body?.messages ?? []).filter(({ role }) => role === 'user');
        assert.ok(!JSON.stringify(came).includes(worked), bomb);
      }
    } finally {
      over.abort();
    }
    await watching;
    assert.ok(answers > 0);
    assert.ok(largest > 100 && largest < 560, `${largest} processes`);
    await grounds.assertUntouched([project]);
  });
});
