import { examineRedis } from '../compose-coordination.ts';
import { examineDatabase } from '../compose-database.ts';
import { examineMachine } from '../compose.ts';
import { describeSettings } from '../config/describe.ts';
import type { Settings } from '../config/settings.ts';
import { clientOf } from './client.ts';
import type { Terminal } from './command.ts';
import { printProcesses, processesOf } from './processes.ts';

/** Prints the settings in force, the database, Redis if there is one, what the machine lacks for a jail, and the processes of the service if it runs. Exit code 1 when the service could not run as set. */
export async function doctor(settings: Settings, { out }: Terminal): Promise<number> {
  out.write('Settings\n');
  for (const { variable, value, source } of describeSettings(settings))
    out.write(`  ${variable} = ${value}  (${source})\n`);
  for (const warning of settings.warnings) out.write(`  warning: ${warning}\n`);
  const database = await examineDatabase(settings);
  out.write(`\nDatabase\n  ${database.ok ? 'ok     ' : 'FAILED '} ${database.detail}\n`);
  const redis = await examineRedis(settings);
  if (redis) out.write(`\nRedis\n  ${redis.ok ? 'ok     ' : 'FAILED '} ${redis.detail}\n`);
  out.write('\nIsolation\n');
  const checks = await examineMachine(settings);
  for (const { name, ok, detail, remedy } of checks) {
    out.write(`  ${ok ? 'ok     ' : 'MISSING'} ${name}: ${detail}\n`);
    if (!ok) out.write(`          ${remedy}\n`);
  }
  out.write('\nProcesses\n');
  await showProcesses(settings, out);
  const jailed = checks.every((check) => check.ok) || settings.isolation === 'none';
  return database.ok && redis?.ok !== false && jailed ? 0 : 1;
}

/** The processes as they are now. That no service answers is no fault of the machine. */
async function showProcesses(settings: Settings, out: Terminal['out']): Promise<void> {
  try {
    const processes = await processesOf(await clientOf(settings));
    if (processes.length === 0) out.write('  none\n');
    else printProcesses({ out }, {}, processes);
  } catch (error) {
    out.write(`  not known: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}
