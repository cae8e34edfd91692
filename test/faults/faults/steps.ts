import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { below } from '../../../soak/procfs.ts';
import { masterKey } from '../../support/service.ts';
import type { Stage } from '../fault.ts';
import type { ServerNode } from '../node.ts';

const pollMs = 50;
const longestMs = 20_000;

/** Looks until it finds what it wants, or for a generous time; gives what was found last. */
export async function waitFor<T>(
  look: () => Promise<T>,
  isThere: (found: T) => boolean,
  milliseconds = longestMs,
): Promise<T> {
  const until = performance.now() + milliseconds;
  for (;;) {
    const found = await look();
    if (isThere(found) || performance.now() >= until) return found;
    await delay(pollMs);
  }
}

/** The call that starts a conversation with a prompt that has a word of its own, under that word as its key. */
export const starting = (id: string, word: string, body: object) =>
  ({ what: 'start', path: `conversation/start?session_id=${id}`, body, conversation: id, word, key: word }) as const;

/** The pids of Claude Code itself on a node, of processes in a state. */
export async function runningAgents(node: ServerNode, state = 'running'): Promise<number[]> {
  const headers = { authorization: `Bearer ${masterKey}` };
  const response = await fetch(`${node.url}/api/admin/processes`, { headers }).catch(() => null);
  if (!response?.ok) return [];
  const { items } = (await response.json()) as { items: { pid: number; state: string }[] };
  const found = await Promise.all(items.filter((each) => each.state === state).map(({ pid }) => claudeBelow(pid)));
  return found.flat();
}

async function claudeBelow(pid: number): Promise<number[]> {
  const pids = await below(pid);
  const commands = await Promise.all(pids.map((each) => readFile(`/proc/${each}/cmdline`, 'latin1').catch(() => '')));
  return pids.filter((_, index) => /^[^\0]*claude\0/u.test(commands[index] ?? ''));
}

/** Whether the node says that it is ready; null when it does not answer. */
export async function readyz(node: ServerNode): Promise<number | null> {
  try {
    return (await fetch(`${node.url}/readyz`, { signal: AbortSignal.timeout(15_000) })).status;
  } catch {
    return null;
  }
}

/** A raw connection that asks for something with a key, and does with the answer what it likes. */
export async function raw({ world }: Stage, tenant: string, path: string, method = 'GET', body = ''): Promise<Socket> {
  const { hostname, port } = new URL(world.serving.url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('connect', resolve));
  const head = [
    `${method} ${path} HTTP/1.1`,
    `host: ${hostname}:${port}`,
    `authorization: Bearer ${world.keys[tenant]}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`);
  return socket;
}
