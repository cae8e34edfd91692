import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { limitArgs, systemBinds, wallsCommand, type Walls } from './bwrap.ts';
import { freshDirectory } from './jail-support.ts';

const tools = {
  bwrap: '/b',
  prlimit: '/p',
  switching: { unshare: '/u', mount: '/m', setpriv: '/s' },
  sizes: true,
  limits: ['--nproc=9'],
};
const walls = (more: Partial<Walls>): Walls => ({
  tools,
  user: null,
  binds: [],
  hidden: [],
  stageDir: '/nonexistent',
  cwd: '/workspace',
  identity: null,
  ...more,
});
/** The arguments as one text in which every option can be looked for. */
const flat = ({ file, args }: { file: string; args: string[] }) => [file, ...args].join(' ');

test('an ordinary user needs one stage: bwrap, then the limits, then the command', () => {
  const command = wallsCommand(walls({ binds: [{ from: '/a', to: '/x/y/z', write: true }] }), ['run', 'it']);
  assert.equal(command.file, '/b');
  assert.match(flat(command), / --perms 0755 --dir \/x --perms 0755 --dir \/x\/y --bind \/a \/x\/y\/z /);
  assert.match(flat(command), / -- \/p --nproc=9 -- run it$/);
  for (const word of ['user', 'pid', 'ipc', 'uts', 'net']) assert.ok(command.args.includes(`--unshare-${word}`));
  assert.ok(command.args.includes('--die-with-parent'));
});

test('root mounts what is closed to the user first, gives up everything, and becomes the user’s bwrap', async (t) => {
  const stageDir = await freshDirectory(t);
  const binds = [
    { from: '/open', to: '/o' },
    { from: '/root/closed', to: '/c', closed: true },
    { from: '/root/file', to: '/f', closed: true, file: true },
  ];
  const command = wallsCommand(walls({ user: { uid: 7, gid: 8 }, stageDir, binds }), ['it']);
  const text = flat(command);
  assert.equal(command.file, '/u');
  assert.ok(
    text.includes(
      `bind /root/closed ${stageDir}/directory-1 bind /root/file ${stageDir}/file-2 -- /s --reuid 7 --regid 8`,
    ),
  );
  assert.match(text, /--clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all --pdeathsig KILL -- \/b /);
  assert.ok(text.includes(`--ro-bind /open /o`));
  assert.ok(text.includes(`--ro-bind ${stageDir}/directory-1 /c`));
  assert.throws(() => wallsCommand(walls({ user: { uid: 7, gid: 8 }, tools: { ...tools, switching: null } }), ['it']));
});

test('what is hidden is empty in every bind that holds it, also in the system’s', async (t) => {
  const base = await freshDirectory(t);
  await mkdir(join(base, 'data', 'inside'), { recursive: true });
  const project = { from: base, to: base, write: true };
  const text = flat(
    wallsCommand(
      walls({ binds: [project], hidden: [join(base, 'data', 'inside'), join(base, 'data'), '/elsewhere', base] }),
      ['it'],
    ),
  );
  assert.match(text, new RegExp(`--bind ${base} ${base} --size \\d+ --tmpfs ${base}/data `));
  assert.equal(text.split('--tmpfs').length - 1, 3, '/dev/shm, /tmp and the data directory');
  const usr = flat(wallsCommand(walls({ binds: [{ from: '/usr', to: '/usr' }], hidden: ['/usr/share'] }), ['it']));
  assert.match(usr, /--ro-bind \/usr \/usr --size \d+ --tmpfs \/usr\/share /);
});

test('only the system is taken from the host', () => {
  const allowed =
    /^\/(usr|bin|sbin|lib|lib32|lib64|libx32|etc\/(ssl|pki|ca-certificates|crypto-policies|alternatives|ld\.so\.cache|localtime))$/;
  assert.deepEqual(
    systemBinds().filter(({ from, to, write }) => !allowed.test(from) || from !== to || write),
    [],
  );
});

test('the limits are ours or this process’s own, whichever is lower', () => {
  const own = `Limit                     Soft Limit           Hard Limit           Units
Max file size             unlimited            unlimited            bytes
Max data size             unlimited            unlimited            bytes
Max processes             100                  200                  processes
Max open files            1024                 1048576              files
`;
  assert.deepEqual(limitArgs(own), [
    '--nproc=200',
    '--nofile=8192',
    `--fsize=${4 * 1024 ** 3}`,
    `--data=${12 * 1024 ** 3}`,
    '--core=0',
  ]);
});
