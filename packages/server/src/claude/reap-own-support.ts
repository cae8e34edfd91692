import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { reap, record } from './reaper.ts';
import { prepareRunDirectory } from './slots.ts';

// For a test: an entry names this process's own user, and the reaper is asked to end what an earlier server left.

const { runDir } = JSON.parse(process.argv[2] ?? '') as { readonly runDir: string };
const uid = process.getuid!();
const run = await prepareRunDirectory(runDir);
const directory = join(run.path, 'jails', 'proc-left');
await mkdir(directory);
record(directory, { id: 'proc-left', uid, leader: null, owner: { pid: process.pid, start: 'before this one' } });
await reap(run.path);
process.stdout.write(`uid ${uid} still runs\n`);
