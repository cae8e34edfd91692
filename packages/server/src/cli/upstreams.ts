import type { UpstreamInfo } from '@sallyport/protocol';
import type { Commands } from './command.ts';
import { printList } from './print.ts';

const columns: Readonly<Record<string, (upstream: UpstreamInfo) => string>> = {
  UPSTREAM: ({ name }) => name,
  STATE: ({ state, until }) => (until === null ? state : `${state} until ${until}`),
  CALLS: ({ calls, max_calls: most }) => `${calls} of ${most}`,
  KEYS: ({ keys }) => keys.map(keyText).join(', '),
};

function keyText({ name, state, code, until }: UpstreamInfo['keys'][number]): string {
  return state === 'ready' ? `${name} ready` : `${name} aside until ${until} (${code})`;
}

/** Adds the command that shows where the calls of the model go. */
export function addUpstreamCommands(commands: Commands): void {
  commands.ask('upstreams', 'Lists the upstreams and their keys.', async (client, terminal, { options }) => {
    const { items } = await client.call<{ items: UpstreamInfo[] }>('listUpstreams');
    printList(terminal, options, items, columns);
  });
}
