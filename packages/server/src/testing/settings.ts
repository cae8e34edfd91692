import { doesNotMatch, ok, throws } from 'node:assert/strict';
import { loadSettings, SettingsError, type Settings, type SettingsInput } from '../config/settings.ts';

/** A machine with 2 cores and 8 GB. */
export const machine = { cores: 2, memoryBytes: 8e9, uid: 1000, tmpdir: '/tmp' };

/** The settings of an environment on `machine`, started in this directory. */
export function load(env: Readonly<Record<string, string>> = {}, rest: SettingsInput = {}): Settings {
  return loadSettings({ env, cwd: import.meta.dirname, machine, ...rest });
}

/** The one line with which the settings are refused. */
export function refused(work: () => unknown): string {
  let message = '';
  throws(work, (error) => {
    ok(error instanceof SettingsError);
    message = error.message;
    return true;
  });
  doesNotMatch(message, /[\r\n]/);
  return message;
}
