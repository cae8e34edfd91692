import type { ProcessInfo } from '@sallyport/protocol';
import { setTimeout as delay } from 'node:timers/promises';
import { sendForJson, type Call } from './client.ts';
import type { Stage } from './stage.ts';

async function administer(stage: Stage, method: Call['method'], path: string, body?: unknown) {
  const url = `${stage.service.url}/api/admin/${path}`;
  const headers = { authorization: `Bearer ${stage.service.admin}` };
  const answer = await sendForJson({ url, method, headers, body });
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** Makes a tenant with a user key, and gives the key's secret. */
export async function makeTenant(stage: Stage, id: string): Promise<string> {
  await administer(stage, 'POST', 'tenants', { id });
  const { secret } = await administer(stage, 'POST', `tenants/${id}/keys`, { name: 'bench', role: 'user' });
  return secret as string;
}

/** A process of the service. It may be in a state that this program does not know. */
export type ListedProcess = Omit<ProcessInfo, 'state'> & { readonly state: string };

/** The service's processes of Claude Code, as they are now. */
export async function listProcesses(stage: Stage): Promise<readonly ListedProcess[]> {
  const { items } = await administer(stage, 'GET', 'processes');
  return items as ListedProcess[];
}

/** The value of a setting of the service, as it shows it. */
export async function settingOf(stage: Stage, variable: string): Promise<string> {
  const { items } = await administer(stage, 'GET', 'settings');
  const found = (items as { variable: string; value: string }[]).find((item) => item.variable === variable);
  if (found === undefined) throw new Error(`there is no setting ${variable}`);
  return found.value;
}

const quietPollMs = 50;
/** So often in a row nothing changed: what begins after an answer has begun by then. */
const quietPolls = 10;
const longestPolls = 1200;

/** Waits until no process starts or runs and nothing changes any more; gives the processes there are then. */
export async function quiet(stage: Stage): Promise<readonly ListedProcess[]> {
  let [before, same] = ['', 0];
  for (let polls = 0; polls < longestPolls; polls += 1) {
    const found = await listProcesses(stage);
    const busy = found.some(({ state }) => state === 'starting' || state === 'running');
    const now = found.map(({ process_id, state }) => `${process_id} ${state}`).join();
    same = !busy && now === before ? same + 1 : 0;
    if (same >= quietPolls) return found;
    before = now;
    await delay(quietPollMs);
  }
  throw new Error('the service does not come to rest');
}
