import type { KeyInfo, KeyWithSecret } from '@sallyport/protocol';
import type { Client } from './client.ts';
import type { Commands, Line, Terminal } from './command.ts';
import { duration, isNarrowed, narrowingIn, narrowingText, withNarrowing } from './narrowing.ts';
import { printList, printOne } from './print.ts';

const columns: Readonly<Record<string, (key: KeyInfo) => string>> = {
  NAME: ({ name }) => name,
  TENANT: ({ tenant }) => tenant,
  ROLE: ({ role }) => role,
  STATE: ({ created_at, revoked_at }) =>
    created_at === null ? 'configured' : revoked_at === null ? 'stored' : 'revoked',
  EXPIRES: ({ expires_at }) => expires_at ?? 'never',
  MADE_BY: ({ created_by }) => created_by,
  NARROWED: ({ narrowing }) => narrowingText(narrowing),
};

const tenantOf = ({ options }: Line): string => String(options['tenant']);
const placeOf = (line: Line) => ({ tenant: tenantOf(line), key: line.words[0] ?? '' });

/** Standard output gets the secret alone, so that a script can take it; what a human wants to know goes beside it. */
function printSecret(terminal: Terminal, { options }: Line, { secret, ...key }: KeyWithSecret): void {
  if (options['json']) {
    terminal.out.write(`${JSON.stringify({ ...key, secret }, null, 2)}\n`);
    return;
  }
  printOne({ out: terminal.error }, options, key, columns);
  terminal.error.write('The secret is shown this once:\n');
  terminal.out.write(`${secret}\n`);
}

async function keysOf(client: Client, tenant: string): Promise<KeyInfo[]> {
  return (await client.call<{ items: KeyInfo[] }>('listKeys', { params: { tenant } })).items;
}

async function create(client: Client, terminal: Terminal, line: Line): Promise<void> {
  const { name, role, expiresIn: expires_in } = line.options;
  const narrowing = isNarrowed(line.options) ? narrowingIn(line.options, null) : null;
  const body = { ...(name !== undefined && { name }), role, narrowing, expires_in };
  printSecret(terminal, line, await client.call('createKey', { params: { tenant: tenantOf(line) }, body }));
}

async function change(client: Client, terminal: Terminal, line: Line): Promise<void> {
  const { options } = line;
  const place = placeOf(line);
  const body: { narrowing?: unknown; expires_in?: unknown } = { expires_in: options['expiresIn'] };
  if (isNarrowed(options)) {
    const key = (await keysOf(client, place.tenant)).find(({ name }) => name === place.key);
    body.narrowing = narrowingIn(options, key?.narrowing ?? null);
  }
  printOne(terminal, options, await client.call<KeyInfo>('changeKey', { params: place, body }), columns);
}

/** Adds the commands that look after keys. */
export function addKeyCommands(commands: Commands): void {
  const keys = commands.group('keys', 'Looks after the keys of the running service.');
  const ask: typeof keys.ask = (usage, description, task) =>
    keys.ask(usage, description, task).option('--tenant <id>', 'Whose key it is.', 'default');
  withNarrowing(ask('create', 'Makes a key. Its secret alone is written to standard output.', create))
    .option('--name <name>', 'Default: one is made.')
    .option('--role <role>', 'admin, operator, user or viewer.', 'user')
    .option('--expires-in <duration>', 'As 12h or 30d. Default: never.', duration);
  ask('list', 'Lists the keys of a tenant.', async (client, terminal, line) =>
    printList(terminal, line.options, await keysOf(client, tenantOf(line)), columns),
  );
  withNarrowing(ask('change <name>', 'Changes the given parts of what a key may less than its role.', change)).option(
    '--expires-in <duration>',
    'From now on, as 12h or 30d.',
    duration,
  );
  ask(
    'rotate <name>',
    'Gives a key another secret, which alone is written to standard output.',
    async (client, terminal, line) => {
      const body = { overlap: line.options['overlap'] };
      printSecret(terminal, line, await client.call('rotateKey', { params: placeOf(line), body }));
    },
  ).option('--overlap <duration>', 'How long the old secret stays valid, as 15m or 1d.', duration, 3600);
  ask('revoke <name>', 'Revokes a key for good.', async (client, terminal, line) =>
    printOne(terminal, line.options, await client.call<KeyInfo>('revokeKey', { params: placeOf(line) }), columns),
  );
}
