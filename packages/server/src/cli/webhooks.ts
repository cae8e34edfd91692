import type { WebhookDeliveryInfo, WebhookSecretInfo, WebhookSecretShown } from '@sallyport/protocol';
import type { Commands, Line, Terminal } from './command.ts';
import { duration } from './narrowing.ts';
import { printList, printOne } from './print.ts';

const columns: Readonly<Record<string, (delivery: WebhookDeliveryInfo) => string>> = {
  ID: ({ delivery_id }) => delivery_id,
  TYPE: ({ type }) => type,
  JOB: ({ job_id }) => job_id,
  STATE: ({ state, next_try_at }) => (next_try_at === null ? state : `${state} until ${next_try_at}`),
  TRIES: ({ tries }) => String(tries),
  ANSWER: ({ status, problem }) => [status, problem].filter((part) => part !== null).join(' ') || '-',
  MADE: ({ created_at }) => created_at,
};

const secretColumns: Readonly<Record<string, (secret: WebhookSecretInfo) => string>> = {
  TENANT: ({ tenant }) => tenant,
  MADE: ({ created_at }) => created_at ?? 'never',
  MADE_BY: ({ created_by }) => created_by ?? '-',
  PREVIOUS_UNTIL: ({ previous_until }) => previous_until ?? '-',
};

const tenantOf = ({ options }: Line) => ({ tenant: String(options['tenant']) });

/** Standard output gets the secret alone, so that a script can take it. */
function printSecret(terminal: Terminal, { options }: Line, { secret, ...info }: WebhookSecretShown): void {
  if (options['json']) {
    terminal.out.write(`${JSON.stringify({ ...info, secret }, null, 2)}\n`);
    return;
  }
  printOne({ out: terminal.error }, options, info, secretColumns);
  terminal.error.write('The secret is shown this once:\n');
  terminal.out.write(`${secret}\n`);
}

/** Adds the commands that look after webhooks. */
export function addWebhookCommands(commands: Commands): void {
  const webhooks = commands.group('webhooks', 'Looks after the webhooks of a tenant.');
  const ask: typeof webhooks.ask = (usage, description, task) =>
    webhooks.ask(usage, description, task).option('--tenant <id>', 'Whose they are.', 'default');
  ask('list', 'Lists the newest webhooks.', async (client, terminal, line) => {
    const { state } = line.options;
    const query = { ...tenantOf(line), ...(typeof state === 'string' && { state }), limit: 200 };
    const { items } = await client.call<{ items: WebhookDeliveryInfo[] }>('listWebhookDeliveries', { query });
    printList(terminal, line.options, items, columns);
  }).option('--state <state>', 'pending, delivered or dead. Default: all.');
  ask('redeliver <id>', 'Sends a webhook again.', async (client, terminal, line) => {
    const asked = { params: { delivery_id: line.words[0] ?? '' }, query: tenantOf(line) };
    printOne(terminal, line.options, await client.call<WebhookDeliveryInfo>('redeliverWebhook', asked), columns);
  });
  ask('secret', 'Says when the secret was made.', async (client, terminal, line) =>
    printOne(
      terminal,
      line.options,
      await client.call<WebhookSecretInfo>('webhookSecret', { query: tenantOf(line) }),
      secretColumns,
    ),
  );
  ask('rotate', 'Makes a secret, which alone is written to standard output.', async (client, terminal, line) => {
    const asked = { query: tenantOf(line), body: { overlap: line.options['overlap'] } };
    printSecret(terminal, line, await client.call('rotateWebhookSecret', asked));
  }).option('--overlap <duration>', 'How long the old secret signs too, as 15m or 1d.', duration, 86_400);
}
