import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultBounds, errorBody, operations, type Operation, type OperationId } from '@sallyport/protocol';
import type { Settings } from '../config/settings.ts';

/** Seconds for a whole answer. */
const patience = 30;

/** What an operation is asked with. */
export interface Asked {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string | number>>;
  readonly body?: object;
}

/** Asks the service that runs with the settings, with an admin key. */
export interface Client {
  /** Gives the answer as it is declared. Rejects with one readable line, that of the service where it refuses. */
  call<T>(id: OperationId, asked?: Asked): Promise<T>;
}

/** The admin key of the settings, or the one that the service made for itself. */
async function adminKey({ masterKey, dataDir }: Settings): Promise<string> {
  if (masterKey !== null) return masterKey;
  const path = join(dataDir, 'admin-key');
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    const remedy = "set CLAUDE_API_MASTER_KEY to the service's own, or --data-dir to its data directory";
    throw new Error(`no admin key: ${remedy} (${path} cannot be read: ${why})`, {
      cause: error,
    });
  }
}

function addressOf({ host, port }: Settings): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function urlOf({ path }: Operation, { params = {}, query = {} }: Asked): string {
  const filled = path.replaceAll(/\{(\w+)\}/gu, (_, name: string) => encodeURIComponent(params[name] ?? ''));
  const search = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
  return search.size === 0 ? filled : `${filled}?${search.toString()}`;
}

/** What the service says to a request that it refuses; null when it is no answer of Sallyport. */
function sentenceOf(body: unknown): string | null {
  const { data } = errorBody.safeParse(body);
  if (!data) return null;
  const { detail } = data;
  if (typeof detail === 'string') return detail;
  if (!Array.isArray(detail)) return `${detail.error} Try again in ${detail.retry_after} seconds.`;
  return detail.map(({ loc, msg }) => `${loc.slice(1).join('.')}: ${msg}`).join('; ');
}

/** Makes a client. Rejects when there is no admin key. */
export async function clientOf(settings: Settings): Promise<Client> {
  const authorization = `Bearer ${await adminKey(settings)}`;
  const address = addressOf(settings);
  const table: Readonly<Record<OperationId, Operation>> = operations(defaultBounds);
  return {
    async call<T>(id: OperationId, asked: Asked = {}) {
      const operation = table[id];
      const response = await fetch(`${address}${urlOf(operation, asked)}`, {
        method: operation.method,
        headers: { authorization, ...(asked.body && { 'content-type': 'application/json' }) },
        redirect: 'error',
        signal: AbortSignal.timeout(patience * 1000),
        ...(asked.body && { body: JSON.stringify(asked.body) }),
      }).catch((cause: unknown) => {
        throw new Error(
          `no service answers at ${address}: start it with "sallyport serve", or name it with --host and --port`,
          { cause },
        );
      });
      const body: unknown = await response.json().catch(() => null);
      if (!response.ok) {
        throw new Error(sentenceOf(body) ?? `what answers ${response.status} at ${address} is not Sallyport`);
      }
      const { success, data } = operation.response.schema.safeParse(body);
      if (!success) throw new Error(`what answers at ${address} is not Sallyport, or another version of it`);
      return data as T;
    },
  };
}
