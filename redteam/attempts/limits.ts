import { success, type CallAttempt } from '../attempt.ts';
import { processesWith } from '../../test/support/processes.ts';
import type { Ground } from '../world.ts';
import { command } from './command.ts';

/** How many processes a jail may have, with some for the walls around it. */
const mostProcesses = 560;

/** Allocates files without writing them, and removes them. Succeeds when all of them could be had. */
const allocate = (directory: string, count: number, size: string) =>
  `( ok=1; for index in $(seq ${count}); do fallocate -l ${size} ${directory}/made-large-$index || { ok=0; break; }; done 2>&1
[ $ok = 1 ] && ${success} ${count} times ${size}; rm -f ${directory}/made-large-* )`;

async function answers({ service }: Ground): Promise<string[]> {
  return (await fetch(`${service.url}/livez`)).status === 200 ? [] : ['the service does not answer'];
}

/** Where it is said what bounds these where the jail does not. */
const guide = 'docs/guide/security.md, "What does not stop them"';

/** Attempts to use up the machine. Each is bounded by itself, should nothing else bound it. */
export const limitAttempts: readonly CallAttempt[] = [
  command({
    name: 'many-processes',
    reaches: 'all processes that the machine can have',
    line: ({ seconds }) => `perl -e '
for (1..900) { my $pid = fork; if (!defined $pid) { print "fork: $!\\n"; last } exec "sleep", "${seconds}" if $pid == 0; push @pids, $pid }
print @pids > ${mostProcesses} ? "REACH" . "ED" : "started", " ", scalar(@pids), "\\n"; kill 9, $_ for @pids; wait for @pids'`,
    inside: [{ by: 'limits', sign: /Resource temporarily unavailable/u }],
    gained: async (at) => {
      const found = await processesWith(at.seconds);
      return [...(found.length > mostProcesses ? [`${found.length} processes`] : []), ...(await answers(at))];
    },
  }),
  command({
    name: 'large-file',
    reaches: 'the disk, with one file',
    line: () => allocate('.', 1, '5G'),
    inside: [{ by: 'limits', sign: /File too large|File size limit exceeded/u }],
    unboxed: true,
  }),
  command({
    name: 'many-files',
    reaches: 'the disk, with many files in the workspace',
    line: () => allocate('.', 5, '1G'),
    inside: [{ by: 'limits', sign: /quota|File too large|No space left/iu }],
    known: guide,
  }),
  command({
    name: 'temporary-files',
    reaches: 'memory, with files in temporary directories',
    line: () => `${allocate('${TMPDIR:-/tmp}', 2, '1G')}; ${allocate('/tmp', 2, '1G')}`,
    inside: [{ by: 'limits', sign: /No space left/u }],
  }),
  command({
    name: 'shared-memory',
    reaches: 'memory, with files in devices',
    line: () => `${allocate('/dev/shm', 2, '600M')}; ${allocate('/dev', 2, '600M')}`,
    inside: [{ by: 'limits', sign: /No space left|Read-only file system/u }],
    known: guide,
  }),
  command({
    name: 'memory',
    reaches: 'the memory of the machine',
    line: () => `dd if=/dev/zero of=/dev/null bs=13G count=1 2>&1 && ${success} 13 GB`,
    inside: [{ by: 'limits', sign: /memory exhausted|Cannot allocate memory/u }],
  }),
  command({
    name: 'large-output',
    reaches: 'the memory of the service, with the output of a command',
    line: () => `head -c 100000000 /dev/zero | tr '\\0' x; echo`,
    endless: true,
    inside: [{ by: 'bounds', sign: /^(?![^]{200000})[^]*x{1000}/u }],
    gained: answers,
  }),
];
