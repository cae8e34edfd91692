import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { Brain, Step } from '@sallyport/simulator';
import {
  claudeInJail,
  commandStep,
  giveToProjectUser,
  isRoot,
  makeProject,
  printedBy,
  runInJail,
  sleepSeconds,
  strict,
  untilGone,
} from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { play } from '../support/played.ts';
import { processesWith } from '../support/processes.ts';
import { until } from '../support/runs.ts';
import { startService, unshared, type TestService } from '../support/service.ts';

const canary = 'canary-of-the-host-81d2';

let service: TestService;

describe('what a run leaves behind', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  before(async () => {
    service = await startService({ env: unshared });
    assert.equal(service.sallyport.jailed, true);
  });
  after(() => service.close());

  test('a daemon does not outlive the run', async () => {
    const project = await makeProject(service, 'daemon', {});
    const seconds = sleepSeconds();
    const daemon = `sh -c 'trap "" HUP TERM; while :; do date >> beat.txt; sleep 0.4; done' needle-${seconds}`;
    const start = `setsid env -i ${daemon} >/dev/null 2>&1 & (setsid nohup sleep ${seconds} >/dev/null 2>&1 &); sleep 1`;
    const { printed, played } = await runInJail(service, { start: `${start}; ps -eo args` }, { project_path: project });
    assert.match(printed['start']!, new RegExp(`^sh -c .*needle-${seconds}$`, 'mu'));
    assert.match(printed['start']!, new RegExp(`^sleep ${seconds}$`, 'mu'));
    assert.deepEqual(played.body['changed_paths'], ['beat.txt']);
    assert.deepEqual(await processesWith(seconds), []);
  });

  test('a fork bomb stays in its bounds, and the service answers', async () => {
    const leaving = new AbortController();
    const steps = [commandStep('bomb', 'bomb() { bomb | bomb & }; bomb; sleep 600')];
    const run = play(service, steps, strict, { signal: leaving.signal }).catch((error: unknown) => error);
    await until(() => service.sallyport.processes().length === 1);
    const mark = `SALLYPORT_PROCESS=${service.sallyport.processes()[0]?.id}`;
    let largest = 0;
    const look = async () => (largest = Math.max(largest, (await processesWith(mark)).length));
    await until(async () => (await look()) > 200);
    for (let times = 0; times < 5; times += 1) {
      assert.equal((await fetch(`${service.url}/livez`)).status, 200);
      await look();
    }
    leaving.abort();
    assert.match(String(await run), /AbortError/u);
    await untilGone(() => processesWith(mark));
    assert.ok(largest < 560, `${largest} processes`);
  });

  test('nothing is written through links that lead out of the workspace', async () => {
    const project = await makeProject(service, 'links', { 'a.txt': 'one\n' });
    const other = join(service.root, 'beside-links');
    await mkdir(other);
    await writeFile(join(other, 'secret.txt'), canary);
    await giveToProjectUser(other, join(other, 'secret.txt'));
    await symlink(other, join(project, 'out'));
    await symlink(join(other, 'secret.txt'), join(project, 'link.txt'));
    const edit = { file_path: join(project, 'a.txt'), old_string: 'one', new_string: 'two' };
    const out = 'cat out/secret.txt link.txt; echo x > out/made; echo x >> link.txt; echo x > ../made';
    const swap = `rm a.txt; ln -s ${join(other, 'secret.txt')} a.txt; ln -s / root; ln -s ${service.dataDir} data`;
    const steps: Step[] = [
      { tools: [{ id: 'read', name: 'Read', input: { file_path: join(project, 'a.txt') } }] },
      { tools: [{ id: 'edit', name: 'Edit', input: edit }] },
      commandStep('write', `${out}; ln ${join(other, 'secret.txt')} hard`),
      // What the service reads after the run is a link now.
      commandStep('swap', swap),
      { tools: [{ id: 'through', name: 'Write', input: { file_path: join(project, 'data/x'), content: 'x' } }] },
    ];
    const played = await play(service, steps, { ...strict, project_path: project });
    printedBy(played, ['write', 'swap']);
    assert.match(played.returned('through').text, /outside the workspace/u);
    assert.deepEqual(await readdir(other), ['secret.txt']);
    assert.equal(await readFile(join(other, 'secret.txt'), 'utf8'), canary);
    assert.ok(!(await readdir(service.root)).includes('made'));
    assert.ok(!(await readdir(service.dataDir)).includes('x'));
    assert.deepEqual(played.body['changed_paths'], ['a.txt', 'data', 'root']);
    assert.doesNotMatch(JSON.stringify(played.body), new RegExp(canary, 'u'));
  });

  test('a slot is empty for the next run, and so is everything else it may write', async () => {
    const places = '/workspace /tmp/home "$TMPDIR" "$CLAUDE_CONFIG_DIR/session-env" /dev/shm';
    const litter = `for place in ${places}; do echo ${canary} > $place/left-behind && echo wrote; done 2>/dev/null`;
    const first = await runInJail(service, { write: litter }, { files: [{ path: 'given.txt', content: canary }] });
    assert.match(first.printed['write']!, /^wrote\n/u);
    const second = await runInJail(service, {
      look: `find /workspace -type f -size +0; grep -rsl ${canary} /tmp /workspace /dev/shm | grep -v projects; id -u`,
    });
    assert.match(second.printed['look']!, /^\d+\n/u);
    const { runDir } = service.sallyport.settings;
    assert.deepEqual(await readdir(join(runDir, 'jails')), []);
  });

  test('Claude Code leaves nothing of its own in a project', async () => {
    const project = await makeProject(service, 'repository', { 'a.txt': 'one\n' });
    execFileSync('git', ['init', '--quiet', project], { env: { PATH: process.env['PATH'] } });
    const listing = async () => (await readdir(project, { recursive: true })).toSorted();
    const before = await listing();
    await giveToProjectUser(...before.map((path) => join(project, path)));
    const { printed } = await runInJail(service, { status: 'git status' }, { project_path: project });
    assert.match(printed['status']!, /On branch/u);
    assert.deepEqual(await listing(), before);
  });

  test('what may only be read is mounted so: not even root could write it', { skip: !isRoot }, async () => {
    const project = await makeProject(service, 'readonly', {});
    for (const [mode, writable] of [
      ['readOnly', false],
      ['strict', true],
    ] as const) {
      let tried = '';
      const brain: Brain = async () => {
        tried = await tryToWrite(join(project, 'by-root.txt'));
        return { text: 'Done.' };
      };
      const { body } = await play(service, brain, { ...strict, permission_mode: mode, project_path: project });
      assert.equal(body['stop_reason'], 'end_turn');
      assert.match(tried, writable ? /^$/u : /Read-only file system/u);
      assert.equal((await readdir(project)).includes('by-root.txt'), writable);
    }
  });

  test('two runs at the same time see nothing of each other', async () => {
    assert.equal(service.sallyport.jailed, true);
    const { runDir } = service.sallyport.settings;
    const meeting = Promise.withResolvers<void>();
    let arrived = 0;
    let ids: string[] = [];
    const seconds = sleepSeconds();
    const write = (which: string) =>
      `echo ${canary}-${which} > ${which}.txt; (setsid sleep ${seconds} &) >/dev/null 2>&1`;
    const others = `ps -eo args | grep ^sleep; cat ${runDir}/jails/*/slot/* /proc/*/root/workspace/*`;
    const look = `find /workspace -type f -size +0; ls ${runDir}/jails; (${others}) 2>/dev/null`;
    const brain: Brain = async (request, { call }) => {
      const isFirst = JSON.stringify(request.messages).includes('first-run');
      if (call === 0) return commandStep('write', isFirst ? write('first') : write('second'));
      if (call > 1) return { text: 'Done.' };
      if ((arrived += 1) === 2) {
        ids = service.sallyport.processes().map(({ id }) => id);
        meeting.resolve();
      }
      await meeting.promise;
      return commandStep('look', look);
    };
    const runs = ['first', 'second'].map((which) => play(service, brain, strict, { words: `${which}-run` }));
    const [first, second] = (await Promise.all(runs)).map((played) => printedBy(played, ['look'])['look']!);
    assert.equal(ids.length, 2);
    for (const text of [first!, second!]) assert.equal(ids.filter((id) => text.includes(id)).length, 1, text);
    assert.match(first!, /^\/workspace\/first\.txt\n/u);
    assert.match(second!, /^\/workspace\/second\.txt\n/u);
    assert.doesNotMatch(first!, /second|^sleep/mu);
    assert.doesNotMatch(second!, /first|^sleep/mu);
  });
});

/** Writes as root among the mounts that Claude Code sees, and gives the complaint. */
async function tryToWrite(path: string): Promise<string> {
  const args = ['-t', String(await claudeInJail(service)), '-m', '/bin/sh', '-c', `echo x > '${path}'`];
  return await promisify(execFile)('nsenter', args).then(
    ({ stderr }) => stderr,
    (error: Error & { stderr?: string }) => error.stderr ?? String(error),
  );
}
