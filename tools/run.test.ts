import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { Checkout, otherNode } from './testing/checkout.ts';

const REPORT = `console.log(JSON.stringify({
  args: process.argv.slice(2), version: process.version, path: process.env.PATH.split(':')[0], lifeline: process.env.SALLYPORT_LIFELINE,
}));`;
const COUNT_SIGNALS = `let seen = [];
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {
  seen.push(signal);
  console.log('got', signal);
  setTimeout(() => { console.log('seen', seen.join(' ')); process.exit(7); }, 300);
});
setInterval(() => {}, 1000);
console.log('up', process.pid);`;

let checkout: Checkout;

beforeEach(() => {
  checkout = new Checkout();
  checkout.write('report.mjs', REPORT);
});
afterEach(() => checkout.remove());

const report = () => ['exec', join(checkout.root, 'report.mjs')];

function takeLockFor(pid: number, host = hostname()) {
  mkdirSync(checkout.lock, { recursive: true });
  writeFileSync(join(checkout.lock, 'owner'), JSON.stringify({ host, id: `${pid}-1`, pids: [pid] }));
}

describe(`started under Node.js ${otherNode.version}`, () => {
  test('a first start installs Node.js, then the packages under it, then runs the program under it', async () => {
    const { code, stdout } = await checkout.run([...report(), 'one', '--two']);
    assert.equal(code, 0);
    const { lifeline, ...seen } = JSON.parse(stdout) as Record<string, unknown>;
    const path = join(
      checkout.root,
      'tools',
      'node-pin',
      'node_modules',
      `node-${process.platform}-${process.arch}`,
      'bin',
    );
    assert.deepEqual(seen, { args: ['one', '--two'], version: process.version, path });
    assert.equal(lifeline, undefined);
    const begun = checkout.npmNotes().filter(({ what }) => what === 'begin');
    assert.deepEqual(checkout.installs(), ['node-pin', 'root']);
    assert.deepEqual(
      begun.map(({ version }) => version),
      [otherNode.version, process.version],
    );
    for (const { args, proxy } of begun) {
      assert.equal(args[0], 'ci');
      assert.ok(args.includes('--include=dev'));
      assert.equal(proxy, 'http://proxy.example:3128');
    }
  });

  test('each step of an installation shows on stderr, and nothing of it on stdout', async () => {
    const { stdout, stderr } = await checkout.run(report());
    assert.match(stderr, /installing Node\.js .*\n.*done in \d+ s\n.*installing packages .*\n.*done in \d+ s\n/);
    assert.equal(stdout.split('\n').length, 2);
  });

  test('a second start does not call npm', async () => {
    await checkout.run(report());
    const { code, stderr } = await checkout.run(report());
    assert.equal(code, 0);
    assert.equal(stderr, '');
    assert.equal(checkout.installs().length, 2);
  });

  test('a changed lockfile installs the packages again, another Node.js version the Node.js', async () => {
    await checkout.run(report());
    checkout.write('package-lock.json', { lockfileVersion: 3, packages: {} });
    await checkout.run(report());
    assert.deepEqual(checkout.installs(), ['node-pin', 'root', 'root']);
    checkout.agePinnedNode();
    await checkout.run(report());
    assert.deepEqual(checkout.installs(), ['node-pin', 'root', 'root', 'node-pin']);
  });

  test('start runs the server, with what follows the dashes', async () => {
    checkout.write('packages/server/src/main.ts', REPORT);
    const { stdout } = await checkout.run(['start', '--', '--port', '1']);
    assert.deepEqual((JSON.parse(stdout) as { args: string[] }).args, ['serve', '--port', '1']);
  });

  test('test runs the suite, with its filters', async () => {
    checkout.write('tools/test.mjs', REPORT);
    const { stdout } = await checkout.run(['test', 'test/flows']);
    assert.deepEqual((JSON.parse(stdout) as { args: string[] }).args, ['test/flows']);
  });

  for (const args of [[], ['dance'], ['exec'], ['exec', 'no-such-file.ts']]) {
    test(`"${args.join(' ')}" is refused without installing anything`, async () => {
      const { code, stderr } = await checkout.run(args);
      assert.equal(code, 2);
      assert.match(stderr, /^sallyport: (no command|unknown command|there is no file)/);
      assert.deepEqual(checkout.installs(), []);
    });
  }
});

describe('an installation that fails', () => {
  const unreachable = 'npm http fetch GET https://registry.example/x attempt 3 failed with ECONNREFUSED\n';

  test('says in one line that the registry does not answer, although npm left the package out silently', async () => {
    const { code, stdout, stderr } = await checkout.run(report(), { installs: false, output: unreachable });
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr.trim().split('\n').at(-1)!, /^sallyport: Node\.js .* registry .* \(ECONNREFUSED\).* again$/);
    assert.doesNotMatch(stderr, /\n\s+at /);
  });

  test('leaves no stamp and no lock, shows what npm says, and is tried again', async () => {
    await checkout.run(report());
    checkout.write('package-lock.json', { lockfileVersion: 2 });
    const broken = { exitCode: 1, output: 'npm http fetch x\nnpm error code EUSAGE\nnpm error not in sync\n' };
    const { code, stderr } = await checkout.run(report(), broken);
    assert.equal(code, 1);
    assert.match(stderr, /\nnpm error code EUSAGE\nnpm error not in sync\nsallyport: npm ci failed in .*exit code 1/);
    assert.doesNotMatch(stderr, /npm http fetch/);
    assert.equal(existsSync(checkout.lock), false);
    assert.equal((await checkout.run(report())).code, 0);
  });

  test('a signal while npm runs ends npm too and leaves no stamp and no lock', async () => {
    const running = checkout.start(report(), { delayMs: 60_000 });
    await running.shows('installing Node.js');
    while (checkout.npmNotes().length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    running.child.kill('SIGTERM');
    assert.equal((await running.ended).code, 143);
    assert.equal(existsSync(checkout.lock), false);
    assert.equal(existsSync(checkout.stamp), false);
    assert.throws(() => process.kill(checkout.npmNotes()[0]!.pid, 0));
  });
});

describe('a system without a packaged Node.js', () => {
  const pin = (version: string) =>
    checkout.write('tools/node-pin/package.json', { version, optionalDependencies: { 'node-plan9-x64': version } });

  test('uses the current one when it is new enough', async () => {
    pin('18.0.0');
    const { stdout } = await checkout.run(report());
    assert.equal((JSON.parse(stdout) as { version: string }).version, otherNode.version);
    assert.deepEqual(checkout.installs(), ['root']);
  });

  test('is told which version to install when it is not', async () => {
    pin('99.0.0');
    const { code, stderr } = await checkout.run(report());
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^sallyport: there is no packaged Node\.js for this system .* install Node\.js 99 or newer .*\n$/,
    );
    assert.deepEqual(checkout.installs(), []);
  });
});

describe('the lock', () => {
  test('of two first starts at once one installs and the other waits', async () => {
    const both = await Promise.all([
      checkout.run(report(), { delayMs: 300 }),
      checkout.run(report(), { delayMs: 300 }),
    ]);
    assert.deepEqual(
      both.map(({ code }) => code),
      [0, 0],
    );
    assert.deepEqual(checkout.installs(), ['node-pin', 'root']);
  });

  test('that a dead process left is taken over', async () => {
    const dead = spawn('true');
    await once(dead, 'exit');
    takeLockFor(dead.pid!);
    assert.equal((await checkout.run(report())).code, 0);
    assert.equal(existsSync(checkout.lock), false);
  });

  test('without a readable owner is taken over', async () => {
    takeLockFor(1);
    writeFileSync(join(checkout.lock, 'owner'), '{');
    assert.equal((await checkout.run(report())).code, 0);
  });

  test('of a living process is waited for, and taken when that process ends', async (t) => {
    const owner = spawn('sleep', ['60']);
    t.after(() => owner.kill());
    takeLockFor(owner.pid!);
    const running = checkout.start(report());
    await running.shows(`waiting for process ${owner.pid}`);
    assert.deepEqual(checkout.installs(), []);
    owner.kill();
    assert.equal((await running.ended).code, 0);
  });
});

describe('a running program', () => {
  const program = (text: string) => ['exec', checkout.write('program.mjs', text)];

  test('gives its exit code, and 128 + n when a signal ended it', async () => {
    assert.equal((await checkout.run(program('process.exit(41);'))).code, 41);
    assert.equal((await checkout.run(program("process.kill(process.pid, 'SIGKILL');"))).code, 137);
  });

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    test(`sees ${signal} once, whether its starter got it alone or its whole group did and npm forwarded it`, async () => {
      const alone = checkout.start(program(COUNT_SIGNALS));
      await alone.shows('up');
      alone.child.kill(signal);
      const first = await alone.ended;
      assert.deepEqual([first.code, first.stdout.split('\n').at(-2)], [7, `seen ${signal}`]);

      const group = checkout.start(program(COUNT_SIGNALS));
      await group.shows('up');
      process.kill(-group.child.pid!, signal);
      group.child.kill(signal);
      const second = await group.ended;
      assert.deepEqual([second.code, second.stdout.split('\n').at(-2)], [7, `seen ${signal}`]);
    });
  }

  test('sees different signals', async () => {
    const running = checkout.start(program(COUNT_SIGNALS.replace('setTimeout(', 'if (seen.length > 1) setTimeout(')));
    await running.shows('up');
    running.child.kill('SIGINT');
    await running.shows('got SIGINT');
    running.child.kill('SIGTERM');
    const { stdout } = await running.ended;
    assert.match(stdout, /seen SIGINT SIGTERM/);
  });

  test('is told to end when its starter is killed', async () => {
    const running = checkout.start(program(COUNT_SIGNALS));
    await running.shows('up');
    process.kill(-running.child.pid!, 'SIGKILL');
    const { stdout } = await running.ended;
    assert.match(stdout, /seen SIGTERM/);
  });
});
