import type { ProcessInfo } from '@sallyport/protocol';
import type { Client } from './client.ts';
import type { Terminal } from './command.ts';
import { printList } from './print.ts';

const columns: Readonly<Record<string, (process: ProcessInfo) => string>> = {
  PID: ({ pid }) => `${pid}`,
  STATE: ({ state }) => state,
  AGE: ({ age_seconds: seconds }) => ageOf(seconds),
  USES: ({ uses }) => `${uses}`,
  MEMORY: ({ memory_bytes: bytes }) => (bytes === 0 ? '-' : `${Math.round(bytes / 2 ** 20)} MB`),
  TENANT: ({ tenant }) => tenant ?? '-',
  CONVERSATION: ({ session_id }) => session_id ?? '-',
  PROFILE: ({ permission_mode: mode, model, tools, project_path: path }) =>
    [mode, model, tools?.join(','), path]
      .filter((part) => part !== null && part !== undefined && part !== '')
      .join(' '),
};

/** The processes of the service that runs. Rejects with one readable line when none answers. */
export async function processesOf(client: Client): Promise<readonly ProcessInfo[]> {
  const { items } = await client.call<{ items: ProcessInfo[] }>('listProcesses');
  return items;
}

/** Writes them as JSON when that is asked for, else as a table. */
export function printProcesses(
  terminal: Pick<Terminal, 'out'>,
  options: Readonly<Record<string, unknown>>,
  processes: readonly ProcessInfo[],
): void {
  printList(terminal, options, processes, columns);
}

function ageOf(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  if (minutes === 0) return `${seconds} s`;
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h`;
}
