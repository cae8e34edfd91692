import assert from 'node:assert/strict';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import {
  freshDirectory,
  freshProject,
  isRoot,
  pidsWith,
  projectUser,
  runScript,
  slot,
  startJails,
  startScript,
} from './jail-support.ts';

describe('inside the walls', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  test('nothing of the host is there but the system, the workspace and what the process needs', async (t) => {
    const secrets = await freshDirectory(t);
    await writeFile(join(secrets, 'secret'), 'x');
    const jails = await startJails(t);
    const jail = await jails.open(slot);
    const neighbour = await jails.open(slot);
    const seen = await runScript(
      jail,
      `ls -A /; echo --; ls -A /etc; echo --; ls -A /tmp; echo --; ls -A ${join(jails.runDir, 'jails')}; echo --;
       for path in ${secrets}/secret /root /var /srv /home /boot ${neighbour.hostRoot} ${jails.runDir}/broker; do
         test -e $path && echo "sees $path"; done; find /usr/src /usr/local/src -mindepth 1 2>/dev/null | sed "s/^/sees /"; echo end`,
    );
    const [root, etc, temporary, jailsSeen, rest] = seen.split('--\n').map((part) => part.trim().split('\n'));
    const allowed = 'usr bin sbin lib lib32 lib64 libx32 etc proc dev tmp workspace .sallyport'.split(' ');
    // Where the run directory lies is there as empty directories down to the process's own config directory.
    allowed.push(jails.runDir.split('/')[1]!);
    assert.deepEqual(
      root!.filter((name) => !allowed.includes(name)),
      [],
    );
    assert.ok(
      !etc!.some((name) => ['shadow', 'hostname', 'hosts', 'resolv.conf', 'environment'].includes(name)),
      String(etc),
    );
    assert.ok(
      temporary!.every((name) => ['home', jails.runDir.split('/')[2]].includes(name)),
      String(temporary),
    );
    assert.deepEqual(jailsSeen, [jail.id]);
    assert.ok(!rest!.some((line) => line.startsWith('sees') && !line.includes(jail.id)), String(rest));
  });

  test('a writable workspace takes files, which belong to the right user on the host', async (t) => {
    const jails = await startJails(t);
    const path = await freshProject(t);
    const jail = await jails.open({ projectPath: path, access: 'rw', bash: false });
    assert.equal(jail.root, path);
    assert.equal(jail.hostRoot, path);
    assert.equal(
      await runScript(jail, 'pwd; cat read.me; echo; echo new > made && echo wrote'),
      `${path}\nhello\nwrote\n`,
    );
    const { uid, gid } = await stat(join(path, 'made'));
    assert.deepEqual({ uid, gid }, projectUser);

    const own = await jails.open(slot);
    assert.equal(own.root, '/workspace');
    assert.equal(
      await runScript(own, 'pwd; echo new > made && stat -c %u made'),
      `/workspace\n${(await stat(own.hostRoot)).uid}\n`,
    );
    assert.equal(await readFile(join(own.hostRoot, 'made'), 'utf8'), 'new\n');
    if (isRoot) assert.notEqual((await stat(own.hostRoot)).uid, 0);
  });

  test('a read-only workspace refuses every write', async (t) => {
    const path = await freshProject(t);
    const jail = await (await startJails(t)).open({ projectPath: path, access: 'ro', bash: false });
    const output = await runScript(
      jail,
      'cat read.me; for way in "> new" "> read.me" ">> read.me"; do sh -c "echo x $way"; done; rm read.me; mkdir d',
    );
    assert.equal(output.match(/Read-only file system/g)?.length, 5, output);
    assert.deepEqual(await readdir(path), ['read.me']);
    assert.equal(await readFile(join(path, 'read.me'), 'utf8'), 'hello');
  });

  test('the system, the binary, the socket and the root directory cannot be written', async (t) => {
    const jail = await (await startJails(t)).open(slot);
    const output = await runScript(
      jail,
      'for path in /x /usr/x /etc/x /dev/x /.sallyport/x /.sallyport/broker/x /.sallyport/claude; do echo x > $path && echo "wrote $path"; done; echo end',
    );
    assert.doesNotMatch(output, /wrote/);
    assert.match(output, /end\n$/);
  });

  test('there is no network: not even the host loopback', async (t) => {
    const server = createServer((socket) => socket.end('hello')).listen(0, '127.0.0.1');
    t.after(() => server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const jail = await (await startJails(t)).open(slot);
    const output = await runScript(
      jail,
      `socat -T2 - TCP:127.0.0.1:${port} </dev/null; cat /proc/net/dev; socat -T2 - UDP:192.0.2.1:53 </dev/null`,
    );
    assert.match(output, /refused|unreachable/i);
    assert.doesNotMatch(output, /hello/);
    assert.doesNotMatch(output, /eth|ens|wlan/);
  });

  test('the broker socket is there under a fixed path', async (t) => {
    const jails = await startJails(t);
    const server = createServer((socket) => socket.end('broker speaks')).listen(join(jails.runDir, 'broker/api.sock'));
    t.after(() => server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    await chmod(join(jails.runDir, 'broker/api.sock'), 0o666);
    const jail = await jails.open(slot);
    assert.match(await runScript(jail, 'socat -u UNIX-CONNECT:$ANTHROPIC_UNIX_SOCKET STDOUT'), /broker speaks/);
  });

  test('other processes cannot be seen or signalled', async (t) => {
    const jails = await startJails(t);
    const other = await jails.open(slot);
    startScript(other, 'sleep 600');
    const jail = await jails.open(slot);
    const seen = await runScript(
      jail,
      'ls /proc | grep -E "^[0-9]+$" | wc -l; cat /proc/[0-9]*/environ | tr "\\0" "\\n" | grep SALLYPORT_PROCESS | sort -u',
    );
    const [count, ...ids] = seen.trim().split('\n');
    assert.ok(Number(count) <= 6, `${count} processes`);
    assert.deepEqual(ids, [`SALLYPORT_PROCESS=${jail.id}`]);
    assert.equal(jails.live().length, 1);
  });

  test('the environment is exactly what was handed over, and no argument holds it', async (t) => {
    const jail = await (await startJails(t)).open(slot);
    const output = await runScript(jail, 'cat /proc/self/environ | tr "\\0" "\\n"; echo --; cat /proc/[0-9]*/cmdline', {
      ANTHROPIC_API_KEY: 'canary-1f',
    });
    const [environment = '', commands = ''] = output.split('--\n');
    const expected = { ...jail.env, ANTHROPIC_API_KEY: 'canary-1f', PWD: jail.root };
    assert.deepEqual(
      Object.fromEntries(
        environment
          .trim()
          .split('\n')
          .map((line) => line.split(/=(.*)/s).slice(0, 2)),
      ),
      expected,
    );
    assert.doesNotMatch(commands, /canary-1f/);
    assert.match(commands, /bwrap/);
  });

  test('no open file of the server comes along', async (t) => {
    const jail = await (await startJails(t)).open(slot);
    const files = await runScript(jail, 'for pid in 1 $$; do readlink /proc/$pid/fd/*; done');
    const known = /^(pipe|socket|anon_inode):|^\/dev\/null$|^\/proc$|^\/(dev\/)?$/;
    assert.deepEqual(
      files
        .trim()
        .split('\n')
        .filter((file) => !known.test(file)),
      [],
    );
  });

  test('no capability is left and none can be regained', async (t) => {
    const jail = await (await startJails(t)).open(slot);
    const status = await runScript(
      jail,
      'grep -E "^(Cap|NoNewPrivs)" /proc/self/status; id -u; mount -t tmpfs none /workspace && echo mounted; umount /tmp && echo unmounted; unshare -Urm umount -l /tmp && echo unmounted',
    );
    for (const set of ['CapPrm', 'CapEff', 'CapInh', 'CapAmb']) assert.match(status, new RegExp(`${set}:\\s+0+\\n`));
    assert.match(status, /NoNewPrivs:\s+1/);
    assert.doesNotMatch(status, /^(un)?mounted$/m);
  });

  test('a flood of processes stops at the bound of its jail, and others can go on', async (t) => {
    const jails = await startJails(t);
    const flood = await jails.open(slot);
    const child = startScript(flood, 'n=0; while [ $n -lt 2000 ]; do sleep 600 & n=$((n + 1)); done; echo unbounded');
    const output = Promise.all([text(child.stdout), text(child.stderr)]);
    // A shell that cannot fork gives up, and its jail ends with it.
    const [, errors] = await output;
    assert.match(errors, /fork/i);
    assert.equal(await runScript(await jails.open(slot), 'echo fine'), 'fine\n');
    await flood.exited;
    assert.deepEqual(await pidsWith(flood.id), []);
  });
});
