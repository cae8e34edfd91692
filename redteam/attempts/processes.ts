import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readlinkSync } from 'node:fs';
import { success, type CallAttempt } from '../attempt.ts';
import { processesWith } from '../../test/support/processes.ts';
import { filesBelow, type Ground } from '../world.ts';
import { command } from './command.ts';

/** Processes of the host that a command must not reach. */
const others = ({ neighbour, victim }: Ground) => [neighbour.pid, victim.pid, process.pid].join(' ');

async function killed({ neighbour, victim, service }: Ground): Promise<string[]> {
  const gone = [
    ...(neighbour.exitCode === null && neighbour.signalCode === null ? [] : ['it killed a process of the host']),
    ...((await stat(`/proc/${victim.pid}`).catch(() => null)) ? [] : ["it killed another user's process"]),
  ];
  const { status } = await fetch(`${service.url}/livez`);
  return status === 200 ? gone : [...gone, 'the service does not answer'];
}

async function left({ seconds }: Ground): Promise<string[]> {
  return (await processesWith(seconds)).map(({ command: line }) => `a process is left: ${line.slice(0, 80)}`);
}

/** Files that give whoever runs them another user's rights. */
async function privileged({ project }: Ground): Promise<string[]> {
  const found: string[] = [];
  for (const path of await filesBelow(project)) {
    const entry = await stat(join(project, path)).catch(() => null);
    if (entry?.isFile() && entry.uid === 0 && (entry.mode & 0o6000) !== 0) found.push(`${path} runs as root`);
    if (entry?.isBlockDevice() || (entry?.isCharacterDevice() && path.startsWith('made-')))
      found.push(`${path} is a device`);
  }
  return found;
}

/** `ptrace` by number, as no module of Perl has it. */
const attach = process.arch === 'arm64' ? 117 : 101;

/** Attempts of commands on other processes, on the kernel, and to stay. */
export const processAttempts: readonly CallAttempt[] = [
  command({
    name: 'daemon',
    reaches: 'to go on after the run has ended',
    line: ({ seconds }) =>
      `(setsid env -i sleep ${seconds} >/dev/null 2>&1 &)
setsid nohup sh -c 'trap "" HUP TERM INT; exec sleep ${seconds}' >/dev/null 2>&1 &
disown -a; sleep 0.3; ps -eo args | grep -c '^sleep ${seconds}'`,
    inside: [{ by: 'pids', sign: /^2$/mu }],
    gained: left,
  }),
  command({
    name: 'kill',
    reaches: 'processes of the service, of the host, of another user',
    // Should it share the processes of the host, it says so and kills nothing.
    line: (
      at,
    ) => `if [ "$(readlink /proc/self/ns/pid)" = '${readlinkSync('/proc/self/ns/pid')}' ]; then ${success} the processes of the host; exit; fi
for pid in ${others(at)}; do kill -9 $pid && ${success} $pid; done 2>&1`,
    inside: [{ by: 'pids', sign: /No such process/u }],
    unboxed: true,
    gained: killed,
  }),
  command({
    name: 'trace',
    reaches: 'memory of other processes, with a debugger',
    line: (at) => `for pid in ${others(at)}; do
  perl -e '$r = syscall(${attach}, 16, int($ARGV[0]), 0, 0); print $r == -1 ? "trace: $!\\n" : "REACH" . "ED $ARGV[0]\\n"' $pid
  if command -v gdb >/dev/null; then gdb -p $pid -batch -ex 'info proc' 2>&1 | grep -q '^process' && ${success} gdb; fi
  { head -c 1 /proc/$pid/mem || head -c 1 /proc/$pid/maps; } >/dev/null && ${success} memory
done 2>&1; gcore 1 >/dev/null 2>&1; ls core* 2>/dev/null`,
    inside: [{ by: 'pids', sign: /trace: No such process/u }],
    unboxed: true,
  }),
  command({
    name: 'mount',
    reaches: 'other mounts and namespaces',
    line: () =>
      [
        'mount -t tmpfs x /mnt',
        'mount --bind / /tmp',
        'mount -o remount,rw /usr',
        'umount -l /proc',
        'unshare -Ur true',
        'unshare -m true',
        'nsenter -t 1 -m true',
        'chroot / true',
        'bwrap --bind / / true',
      ]
        .map((line) => `{ ${line} && ${success} ${line.split(' ')[0]}; } 2>&1`)
        .join('\n'),
    inside: [{ by: 'user', sign: /Operation not permitted|must be superuser|permission denied/iu }],
    unboxed: true,
  }),
  command({
    name: 'become-root',
    reaches: 'the rights of another user',
    line: () =>
      [
        'su -c true',
        'sudo -n true',
        'setpriv --reuid 0 true',
        'chown 0:0 notes.txt',
        'mknod made-device c 1 1',
        'cp /bin/sh made-shell && chmod u+s made-shell && chown 0 made-shell',
        'setcap cap_sys_admin+ep made-shell',
        "perl -e '$> = 0; exit($> == 0 ? 0 : 1)'",
        'chmod 777 /etc /usr /.sallyport',
      ]
        .map((line) => `{ ${line} && ${success} ${line.split(' ')[0]}; } 2>&1 </dev/null`)
        .concat('rm -f made-shell', "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status")
        .join('\n'),
    inside: [{ by: 'user', sign: /^CapEff:\s+0+\nNoNewPrivs:\s+1$/mu }],
    unboxed: true,
    gained: privileged,
  }),
  command({
    name: 'kernel',
    reaches: 'settings of the kernel',
    // They are opened for writing, and nothing is written.
    line: () => `for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /proc/sys/vm/drop_caches /sys/fs/cgroup/release_agent /sys/kernel/uevent_helper /dev/kmsg /proc/1/oom_score_adj; do
  { [ ! -e $file ] || (: >> $file) && [ -e $file ] && ${success} $file; } 2>&1; done`,
    inside: [{ by: 'user', sign: /Read-only file system|Permission denied/u }],
    unboxed: true,
  }),
];
