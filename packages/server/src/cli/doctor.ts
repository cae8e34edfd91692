import { examineMachine } from '../compose.ts';
import { describeSettings } from '../config/describe.ts';
import type { Settings } from '../config/settings.ts';
import type { Terminal } from './command.ts';

/** Prints the settings in force and what the machine lacks for a jail. Exit code 1 when the service could not run as set. */
export async function doctor(settings: Settings, { out }: Terminal): Promise<number> {
  out.write('Settings\n');
  for (const { variable, value, source } of describeSettings(settings))
    out.write(`  ${variable} = ${value}  (${source})\n`);
  for (const warning of settings.warnings) out.write(`  warning: ${warning}\n`);
  out.write('\nIsolation\n');
  const checks = await examineMachine(settings);
  for (const { name, ok, detail, remedy } of checks) {
    out.write(`  ${ok ? 'ok     ' : 'MISSING'} ${name}: ${detail}\n`);
    if (!ok) out.write(`          ${remedy}\n`);
  }
  return checks.every((check) => check.ok) || settings.isolation === 'none' ? 0 : 1;
}
