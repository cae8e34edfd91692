import { Command, CommanderError } from 'commander';
import { loadSettings, SettingsError, type Settings } from '../config/settings.ts';
import { version } from '../version.ts';
import { clientOf } from './client.ts';
import { settingsIn, withSettings, type Group, type Line, type Task, type Terminal } from './command.ts';
import { startFailure } from './failure.ts';
import { addKeyCommands } from './keys.ts';
import { plain } from './print.ts';
import { addStopCommands } from './stops.ts';
import { addTenantCommands } from './tenants.ts';
import { addUpstreamCommands } from './upstreams.ts';
import { addWebhookCommands } from './webhooks.ts';

/** Exit codes: what sysexits.h calls EX_USAGE, EX_CONFIG, and any other failure. */
const exit = { usage: 64, config: 78, failure: 1 };

// The service itself is loaded for those only that run it: the others are to answer at once.
const serve: Task = async (settings, terminal) => (await import('./serve.ts')).serve(settings, terminal);
const doctor: Task = async (settings, terminal) => (await import('./doctor.ts')).doctor(settings, terminal);
const verifyAudit: Task = async (settings, terminal) => (await import('./audit.ts')).verifyAudit(settings, terminal);

/** What the arguments ask for. */
interface Chosen {
  readonly task: Task;
  readonly line: Line;
}

/** The settings that tell where the service answers, and where its own key is. */
const whereabouts = ['host', 'port', 'dataDir'] as const;

function createProgram(terminal: Terminal, choose: (chosen: Chosen) => void): Command {
  const program = new Command('sallyport')
    .description('Claude Code behind a web API.')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.out.write(text),
      writeErr: (text) => terminal.error.write(text),
      outputError: (text, write) => write(`${text.trim().replaceAll('\n', ' ')}\n`),
    });
  const add = (under: Command, usage: string, description: string, task: Task): Command => {
    const command = under.command(usage).description(description);
    return command.action(() =>
      choose({ task, line: { words: command.processedArgs.flat(), options: command.opts() } }),
    );
  };
  const asking = (under: Command): Group => ({
    ask: (usage, description, task) => {
      const ask: Task = async (settings, to, line) => {
        await task(await clientOf(settings), to, line);
        return 0;
      };
      return withSettings(add(under, usage, description, ask), whereabouts).option('--json', 'Answers as JSON.');
    },
  });
  withSettings(add(program, 'serve', 'Starts the service.', serve));
  withSettings(add(program, 'doctor', 'Says what is in force and what is missing.', doctor));
  const audit = program.command('audit').description('Looks after the audit log.');
  withSettings(add(audit, 'verify', 'Checks the audit log of the running service.', verifyAudit));
  const commands = {
    ...asking(program),
    group: (name: string, text: string) => asking(program.command(name).description(text)),
  };
  addKeyCommands(commands);
  addTenantCommands(commands);
  addStopCommands(commands);
  addUpstreamCommands(commands);
  addWebhookCommands(commands);
  return program;
}

/** Runs the program with the arguments after its name. Resolves with the exit code; every failure is one readable line. */
export async function runProgram(args: readonly string[], terminal: Terminal): Promise<number> {
  const asked: Chosen[] = [];
  try {
    createProgram(terminal, (chosen) => asked.push(chosen)).parse(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exit.usage;
    throw error;
  }
  const [chosen] = asked;
  return chosen === undefined ? exit.usage : await perform(chosen, terminal);
}

async function perform({ task, line }: Chosen, terminal: Terminal): Promise<number> {
  let settings: Settings | null = null;
  try {
    settings = loadSettings({ argv: settingsIn(line.options) });
    return await task(settings, terminal, line);
  } catch (error) {
    terminal.error.write(`sallyport: ${plain(startFailure(error, settings))}\n`);
    return error instanceof SettingsError ? exit.config : exit.failure;
  }
}
