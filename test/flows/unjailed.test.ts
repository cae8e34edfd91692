import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { startSimulator, type Simulator, type Step } from '@sallyport/simulator';
import { isRoot, makeProject, sleepSeconds, strict, untilGone } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { play } from '../support/played.ts';
import { processesWith, type Found } from '../support/processes.ts';
import { rows, until } from '../support/runs.ts';
import {
  masterKey,
  type Program,
  runProgram,
  startProgram,
  startService,
  unlimited,
  upstreamKey,
  userKey,
  type TestService,
} from '../support/service.ts';

const canary = 'canary-beside-the-project-44ce';
const bash = (id: string, command: string) => ({ id, name: 'Bash', input: { command } });

describe('isolation none', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { SALLYPORT_ISOLATION: 'none' } });
    assert.equal(service.sallyport.jailed, false);
    assert.deepEqual(service.sallyport.problems, []);
  });
  after(() => service.close());

  for (const mode of ['acceptEdits', 'strict']) {
    test(`lets commands run unasked in ${mode}, on the operator's word`, async () => {
      const project = await makeProject(service, mode, { 'a.txt': 'one\n' });
      const steps = [{ tools: [bash('bash', 'echo made > made.txt; env; hostname')] }];
      const request = { ...strict, permission_mode: mode, project_path: project };
      const { body, returned } = await play(service, steps, request);
      assert.equal(returned('bash').isError, false, returned('bash').text);
      assert.equal(await readFile(join(project, 'made.txt'), 'utf8'), 'made\n');
      assert.deepEqual([body['tools_used'], body['permission_denials']], [['Bash'], []]);
      assert.deepEqual(body['changed_paths'], ['made.txt']);
      for (const secret of [upstreamKey, masterKey, userKey]) assert.ok(!returned('bash').text.includes(secret));
      assert.doesNotMatch(returned('bash').text, /^workspace$/mu);
    });
  }

  for (const mode of ['askForEdits', 'acceptEdits', 'readOnly', 'strict']) {
    test(`the policy alone keeps the file tools inside the workspace in ${mode}`, async () => {
      const other = await makeProject(service, `beside-${mode}`, { 'secret.txt': `${canary}\n` });
      const project = await makeProject(service, `kept-${mode}`, { 'a.txt': 'one\n' });
      await symlink(other, join(project, 'out'));
      await symlink(join(other, 'secret.txt'), join(project, 'link.txt'));
      const read = (id: string, path: string) => ({ id, name: 'Read', input: { file_path: path } });
      const look = (id: string, name: string, input: object) => ({ id, name, input: { pattern: '.', ...input } });
      const reads = [
        read('plain', join(other, 'secret.txt')),
        read('dots', `${project}/../beside-${mode}/secret.txt`),
        read('link', join(project, 'link.txt')),
        read('directory-link', join(project, 'out/secret.txt')),
        read('space', ` ${other}/secret.txt`),
        look('grep', 'Grep', { path: other, output_mode: 'content' }),
        look('grep-space', 'Grep', { path: ` ${other}`, output_mode: 'content' }),
        look('grep-tilde', 'Grep', { path: '~/..', output_mode: 'content' }),
        look('grep-link', 'Grep', { path: 'link.txt', output_mode: 'content' }),
        look('glob', 'Glob', { pattern: `${other}/*` }),
        look('glob-space', 'Glob', { pattern: '*', path: `\t${other}` }),
        look('glob-link', 'Glob', { pattern: 'out/*' }),
      ];
      const writes = [
        { id: 'write', name: 'Write', input: { file_path: join(other, 'made.txt'), content: 'x' } },
        { id: 'write-link', name: 'Write', input: { file_path: join(project, 'out/made.txt'), content: 'x' } },
      ];
      const steps: Step[] = [{ tools: reads }, { tools: writes }];
      const request = { ...strict, permission_mode: mode, project_path: project };
      const { body, calls, returned } = await play(service, steps, request);
      for (const { id } of [...reads, ...writes]) assert.match(returned(id).text, /outside the workspace/u, id);
      assert.deepEqual(body['tools_used'], []);
      assert.equal(body['permission_denials'].length, reads.length + writes.length);
      assert.deepEqual(await readdir(other), ['secret.txt']);
      assert.doesNotMatch(JSON.stringify(calls.map((call) => call.body)), new RegExp(canary, 'u'));
    });
  }

  // In a project, where the user may have processes of its own, one that also clears its environment is not found again.
  test('a daemon does not outlive the run', async (t) => {
    const [inSlot, inProject] = [sleepSeconds(), sleepSeconds()];
    const both = async () => [...(await processesWith(inSlot)), ...(await processesWith(inProject))];
    t.after(async () => (await both()).forEach(({ pid }) => process.kill(pid, 'SIGKILL')));
    const hide = (seconds: string, how: string) =>
      bash('start', `setsid ${how} sleep ${seconds} >/dev/null 2>&1 & echo started`);
    const project = await makeProject(service, 'daemon', {});
    for (const [seconds, how, request] of [
      [inSlot, isRoot ? 'env -i' : '', {}],
      [inProject, '', { project_path: project }],
    ] as const) {
      const { returned } = await play(service, [{ tools: [hide(seconds, how)] }], { ...strict, ...request });
      assert.match(returned('start').text, /started/u);
    }
    assert.deepEqual(
      (await both()).map(({ command }) => command),
      [],
    );
  });

  test('a CLAUDE.md that leads out of the workspace is not read', async () => {
    const other = await makeProject(service, 'led-to', { 'secret.txt': canary });
    const project = await makeProject(service, 'leading-out', {});
    await symlink(join(other, 'secret.txt'), join(project, 'CLAUDE.md'));
    const request = { project_path: project, instructions: true };
    const { body, calls } = await play(service, () => ({ text: 'Done.' }), request);
    assert.equal(body['success'], true, JSON.stringify(body));
    assert.doesNotMatch(JSON.stringify(calls.map((call) => call.body)), new RegExp(canary, 'u'));
  });
});

/** A place for a program of its own, and the settings that start it there before the simulator. */
async function makePlace(t: TestContext) {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'sp-test-')));
  await chmod(base, 0o755);
  const root = join(base, 'projects');
  await mkdir(root);
  const simulator: Simulator = await startSimulator();
  const dataDir = join(base, 'data');
  const runDir = join(base, 'run');
  const env = {
    SALLYPORT_PORT: '0',
    SALLYPORT_DATA_DIR: dataDir,
    SALLYPORT_RUN_DIR: runDir,
    SALLYPORT_WORKSPACE_ROOTS: root,
    ANTHROPIC_BASE_URL: simulator.url,
    ANTHROPIC_API_KEY: upstreamKey,
    SALLYPORT_MODELS: 'sallyport-simulator',
    CLAUDE_API_KEY_1: userKey,
    SALLYPORT_SPARES: '0',
    ...unlimited,
  };
  const programs: Program[] = [];
  t.after(async () => {
    for (const program of programs) {
      program.signal('SIGKILL');
      await program.exited;
    }
    await simulator.close();
    // What a killed program leaves lives for some milliseconds, and may write.
    await rm(base, { recursive: true, force: true, maxRetries: 10 });
  });
  const start = async (more: Record<string, string> = {}, through: readonly string[] = []) => {
    const program = await startProgram({ ...env, ...more }, base, through);
    programs.push(program);
    return { ...program, simulator };
  };
  return { base, root, dataDir, runDir, env, start };
}

const bwrap = spawnSync('sh', ['-c', 'command -v bwrap'], { encoding: 'utf8' }).stdout.trim();
/** What a program is run through to find itself on a machine without bubblewrap. */
const withoutBwrap =
  bwrap === '' ? [] : ['unshare', '--mount', 'sh', '-c', `mount --bind /dev/null ${bwrap} && exec "$@"`, 'sh'];
const cannotHide = bwrap !== '' && (!isRoot || leftOut('a machine without bubblewrap', ['unshare']));

describe('isolation auto without bubblewrap', { skip: cannotHide }, () => {
  for (const mode of ['acceptEdits', 'strict']) {
    test(`denies commands and the web unasked in ${mode}, and edits still work`, async (t) => {
      const place = await makePlace(t);
      const project = await makeProject(place, mode, { 'a.txt': 'one\n' });
      const program = await place.start({}, withoutBwrap);
      assert.match(program.output(), /WITHOUT A JAIL[^]*bwrap is not installed/u);
      const steps: Step[] = [
        { tools: [bash('bash', 'echo made > by-bash.txt')] },
        { tools: [{ id: 'web', name: 'WebFetch', input: { url: `${place.env.ANTHROPIC_BASE_URL}/`, prompt: 'x' } }] },
        { tools: [{ id: 'search', name: 'WebSearch', input: { query: 'anything' } }] },
        { tools: [{ id: 'write', name: 'Write', input: { file_path: join(project, 'new.txt'), content: 'x' } }] },
      ];
      const request = { ...strict, permission_mode: mode, project_path: project };
      const { body, returned } = await play(program, steps, request);
      // In acceptEdits a human is asked, who allows nothing here.
      const why = (tool: string) =>
        mode === 'strict'
          ? `${tool} may not run unasked, because Claude Code is not in a jail here.`
          : 'The user did not allow this call.';
      const denied = [
        ['bash', 'Bash'],
        ['web', 'WebFetch'],
        ['search', 'WebSearch'],
      ] as const;
      for (const [id, tool] of denied) assert.ok(returned(id).isError && returned(id).text.includes(why(tool)), id);
      assert.deepEqual(
        body['permission_denials'],
        denied.map(([id, tool]) => ({ tool_use_id: id, tool, reason: why(tool) })),
      );
      assert.deepEqual([body['tools_used'], body['changed_paths']], [['Write'], ['new.txt']]);
      assert.deepEqual((await readdir(project)).toSorted(), ['a.txt', 'new.txt']);
    });
  }

  test('does not start where others could reach it, nor where a jail is demanded', async (t) => {
    const { env, base } = await makePlace(t);
    for (const [more, line] of [
      [{ SALLYPORT_HOST: '0.0.0.0' }, /^sallyport: without a jail the service listens on loopback only .*\n$/mu],
      [{ SALLYPORT_ISOLATION: 'bwrap' }, /^sallyport: .*\n$/mu],
    ] as const) {
      const { exited, output } = runProgram(['serve'], { ...env, ...more }, base, withoutBwrap);
      assert.equal(await exited, 1, output());
      assert.match(output(), line);
      assert.match(output(), /jail/u);
    }
  });
});

describe('a server that is killed', () => {
  const skipOf = (isolation: string) => isolation === 'bwrap' && leftOut('jail', ['bwrap', 'socat']);

  /** Kills a program while a command of Claude Code runs, and waits until nothing of it is left. */
  async function killInMidCommand(t: TestContext, isolation: string) {
    const place = await makePlace(t);
    const project = await makeProject(place, 'project', { 'a.txt': 'one\n' });
    const start = () => place.start({ SALLYPORT_ISOLATION: isolation });
    const program = await start();
    const [daemon, command] = [sleepSeconds(), sleepSeconds()];
    const steps = [{ tools: [bash('long', `(setsid sleep ${daemon} &); sleep ${command}`)] }];
    let sent: unknown = 'not answered';
    const over = play(program, steps, { ...strict, project_path: project }).then(
      ({ body }) => (sent = body),
      () => (sent = 'cut'),
    );
    const sleeps = async () => [...(await processesWith(daemon)), ...(await processesWith(command))];
    const isSleep = (found: Found) => found.command.startsWith('sleep');
    await until(async () => sent !== 'not answered' || (await sleeps()).filter(isSleep).length === 2);
    assert.equal(sent, 'not answered');
    const [jail] = await readdir(join(place.runDir, 'jails'));
    const ofRun = () => processesWith(`SALLYPORT_PROCESS=${jail}`);
    assert.ok((await ofRun()).length >= 3, 'all that belongs to a run carries its mark');
    program.signal('SIGKILL');
    assert.equal(await program.exited, 'SIGKILL');
    await over;
    assert.equal(sent, 'cut');
    for (const find of [ofRun, sleeps, () => processesWith(place.runDir)]) await untilGone(find);
    return { ...place, project, start };
  }

  for (const isolation of ['bwrap', 'none']) {
    test(
      `leaves no process with isolation ${isolation}, and its turn ends once`,
      { skip: skipOf(isolation) },
      async (t) => {
        const { project, start, runDir, dataDir } = await killInMidCommand(t, isolation);
        const again = await start();
        assert.deepEqual(await readdir(join(runDir, 'jails')), []);
        const turns = () => rows({ dataDir }, 'select state, code from turns where ended_at > 0 order by accepted_at');
        assert.deepEqual(
          turns().map(({ state, code }) => [state, code]),
          [['interrupted', null]],
        );
        const events = rows({ dataDir }, 'select type, payload from events order by seq');
        assert.deepEqual(
          events.map(({ type }) => type),
          ['user_message', 'tool_start', 'result'],
        );
        const { result } = JSON.parse(events.at(-1)!['payload']);
        assert.deepEqual([result.success, result.stop_reason], [false, 'interrupted']);
        const { body } = await play(again, [{ text: 'Still here.' }], { project_path: project });
        assert.equal(body['success'], true, JSON.stringify(body));
        assert.deepEqual(
          turns().map(({ state }) => state),
          ['interrupted', 'completed'],
        );
        again.signal('SIGTERM');
        assert.equal(await again.exited, 0);
      },
    );
  }

  test(
    'leaves nothing of Claude Code in the project once it has started again',
    { skip: skipOf('bwrap') },
    async (t) => {
      const { project, start } = await killInMidCommand(t, 'bwrap');
      await start();
      assert.deepEqual(await readdir(project, { recursive: true }), ['a.txt']);
    },
  );
});
