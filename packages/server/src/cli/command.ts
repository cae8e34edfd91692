import type { Command } from 'commander';
import type { Settings } from '../config/settings.ts';
import { flagOf, settingKeys, table, type SettingKey } from '../config/table.ts';
import type { Client } from './client.ts';

/** Where the program writes and how it is told to stop. */
export interface Terminal {
  readonly out: { write(text: string): unknown };
  readonly error: { write(text: string): unknown };
  /** Resolves at the first signal to stop, with its name. */
  stopRequested(): Promise<string>;
}

/** What a command line gives a task besides the settings. */
export interface Line {
  /** Arguments, in order. */
  readonly words: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
}

/** Does what a command says. Resolves with the exit code; rejects with an error of one readable line. */
export type Task = (settings: Settings, terminal: Terminal, line: Line) => Promise<number>;

/** Does what a command says by asking the service that runs. */
export type ServiceTask = (client: Client, terminal: Terminal, line: Line) => Promise<void>;

/** Where commands are added to the program. */
export interface Commands {
  /** A group of commands, as `keys`. */
  group(name: string, description: string): Group;
  /** A command that asks the running service. */
  ask(usage: string, description: string, task: ServiceTask): Command;
}

export type Group = Pick<Commands, 'ask'>;

/** Lets a command take settings as flags: all of them that are no secret, or some. */
export function withSettings(command: Command, keys: readonly SettingKey[] = settingKeys): Command {
  for (const key of keys) {
    const { secret, text, variable, default: preset, defaultText } = table[key];
    if (!secret) command.option(`${flagOf(key)} <value>`, `${text} [${variable}, default: ${defaultText ?? preset}]`);
  }
  return command.option('--config <file>', 'JSON file with settings.');
}

/** The settings among the options of a command line, as flags. */
export function settingsIn(options: Readonly<Record<string, unknown>>): string[] {
  const given = (name: string, flag: string) => (typeof options[name] === 'string' ? [`${flag}=${options[name]}`] : []);
  return [...given('config', '--config'), ...settingKeys.flatMap((key) => given(key, flagOf(key)))];
}
