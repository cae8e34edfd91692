import { systemClock } from '../engine/clock.ts';
import { createJails, type JailsOptions } from './jail.ts';
import { anyProgram, silent, startScript } from './jail-support.ts';
import type { KeptAs } from './kept-files.ts';
import { prepareRunDirectory } from './slots.ts';

// A server for tests that kill one: opens a jail, runs a shell script in it, says so, and stays.

interface Wanted {
  readonly runDir: string;
  readonly setting: JailsOptions['setting'];
  readonly script: string;
  readonly kept?: KeptAs;
}

const wanted = JSON.parse(process.argv[2] ?? '') as Wanted;
const run = await prepareRunDirectory(wanted.runDir);
const jails = await createJails({
  setting: wanted.setting,
  runDir: run.path,
  hidden: [],
  keptDir: `${wanted.runDir}-kept`,
  brokerSocket: run.brokerSocket,
  claudeBinary: anyProgram,
  clock: systemClock,
  log: silent,
});
const jail = await jails.open({
  projectPath: null,
  access: 'rw',
  bash: true,
  ...(wanted.kept && { kept: wanted.kept }),
});
await jail.beginFiles();
const child = startScript(jail, wanted.script);
child.stdout.pipe(process.stdout);
child.stderr.pipe(process.stderr);
process.stdout.write(
  `${JSON.stringify({ id: jail.id, uid: process.getuid?.(), jailed: jail.jailed, pid: jails.live()[0]?.pid })}\n`,
);
