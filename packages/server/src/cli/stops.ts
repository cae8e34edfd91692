import type { StopInfo } from '@sallyport/protocol';
import type { Client } from './client.ts';
import type { Commands, Line, Terminal } from './command.ts';
import { printList, printOne } from './print.ts';
import { printProcesses, processesOf } from './processes.ts';

const columns: Readonly<Record<string, (stop: StopInfo) => string>> = {
  ID: ({ stop_id }) => stop_id,
  SCOPE: ({ scope }) => scope,
  TENANT: ({ tenant }) => tenant ?? '-',
  NAME: ({ key, conversation }) => key ?? conversation ?? '-',
  SINCE: ({ created_at }) => created_at,
  BY: ({ created_by }) => created_by,
  REASON: ({ reason }) => reason,
};

/** What each scope names, in this order. */
const namesOf: Readonly<Record<string, readonly string[]>> = {
  all: [],
  tenant: ['tenant'],
  key: ['tenant', 'key'],
  conversation: ['tenant', 'conversation'],
};

async function stop(client: Client, terminal: Terminal, { words, options }: Line): Promise<void> {
  const [scope = '', ...names] = words;
  const fields = Object.hasOwn(namesOf, scope) ? namesOf[scope] : undefined;
  if (fields?.length !== names.length) {
    throw new Error('what is stopped is "all", "tenant <id>", "key <tenant> <name>" or "conversation <tenant> <id>"');
  }
  const named = Object.fromEntries(fields.map((field, at) => [field, names[at]]));
  const body = { scope, ...named, reason: options['reason'] };
  printOne(terminal, options, await client.call<StopInfo>('stop', { body }), columns);
}

/** Adds the commands that show what runs and stop it. */
export function addStopCommands(commands: Commands): void {
  commands
    .ask('stop <scope> [names...]', 'Stops all, or a tenant, key or conversation, until it is lifted.', stop)
    .option('--reason <text>', 'For those who read the audit log.', '');
  commands.ask('processes', 'Lists the processes of Claude Code.', async (client, terminal, { options }) =>
    printProcesses(terminal, options, await processesOf(client)),
  );
  commands.ask('stops', 'Lists what is stopped.', async (client, terminal, { options }) => {
    const { items } = await client.call<{ items: StopInfo[] }>('listStops');
    printList(terminal, options, items, columns);
  });
  commands.ask('lift <id>', 'Lifts a stop.', async (client, terminal, { words: [id = ''], options }) =>
    printOne(terminal, options, await client.call<StopInfo>('liftStop', { params: { stop_id: id } }), columns),
  );
}
