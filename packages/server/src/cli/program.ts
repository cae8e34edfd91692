import { Command, CommanderError } from 'commander';
import { loadSettings, SettingsError, type Settings } from '../config/settings.ts';
import { flagOf, settingKeys, table } from '../config/table.ts';
import { version } from '../version.ts';
import { verifyAudit } from './audit.ts';
import { doctor } from './doctor.ts';
import { serve, startFailure, type Terminal } from './serve.ts';

/** Exit codes: what sysexits.h calls EX_USAGE, EX_CONFIG, and any other failure. */
const exit = { usage: 64, config: 78, failure: 1 };

type Task = (settings: Settings, terminal: Terminal) => Promise<number>;

/** Every setting that is no secret is also a flag. */
function withSettings(command: Command): Command {
  for (const key of settingKeys) {
    const { secret, text, variable, default: preset, defaultText } = table[key];
    if (!secret) command.option(`${flagOf(key)} <value>`, `${text} [${variable}, default: ${defaultText ?? preset}]`);
  }
  return command.option('--config <file>', 'JSON file with settings.');
}

/** Runs the program with the arguments after its name. Resolves with the exit code; every failure is one readable line. */
export async function runProgram(args: readonly string[], terminal: Terminal): Promise<number> {
  let task: Task | null = null;
  let words = 1;
  const take =
    (chosen: Task, count = 1) =>
    () => {
      task = chosen;
      words = count;
    };
  const program = new Command('sallyport')
    .description('Claude Code behind a web API.')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.out.write(text),
      writeErr: (text) => terminal.error.write(text),
      outputError: (text, write) => write(`${text.trim().replaceAll('\n', ' ')}\n`),
    });
  withSettings(program.command('serve').description('Starts the service.')).action(take(serve));
  withSettings(program.command('doctor').description('Says what is in force and what is missing.')).action(
    take(doctor),
  );
  const audit = program.command('audit').description('Looks after the audit log.');
  withSettings(audit.command('verify').description('Checks the audit log of the running service.')).action(
    take(verifyAudit, 2),
  );
  try {
    program.parse(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exit.usage;
    throw error;
  }
  return task === null ? exit.usage : await perform(task, args.slice(words), terminal);
}

async function perform(task: Task, argv: readonly string[], terminal: Terminal): Promise<number> {
  let settings: Settings | null = null;
  try {
    settings = loadSettings({ argv });
    return await task(settings, terminal);
  } catch (error) {
    terminal.error.write(`sallyport: ${startFailure(error, settings)}\n`);
    return error instanceof SettingsError ? exit.config : exit.failure;
  }
}
