import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before } from 'node:test';
import { call } from './approvals.ts';
import { giveToProjectUser } from './commands.ts';
import { scripted, send, until } from './runs.ts';
import { masterKey, startService, type TestService, type TestServiceOptions } from './service.ts';

/** A directory outside of a workspace. Its `secret.txt`, and the name of one of its files, must never come out of it. */
export interface Outside {
  /** What it is, in a word. */
  readonly name: string;
  readonly directory: string;
}

/** Part of the name of every file that hostile calls would make. */
export const planted = `planted-${randomBytes(6).toString('hex')}`;

/** A notebook with one cell, `c1`. */
export const notebookOf = (source: string) =>
  JSON.stringify({
    cells: [{ cell_type: 'code', id: 'c1', metadata: {}, outputs: [], execution_count: null, source }],
    metadata: {},
    nbformat: 4,
    nbformat_minor: 5,
  });

/** Files that hold the text, one by its name. Hostile calls name `secret.txt` and `secret.ipynb` alone. */
export const filesWith = (text: string): { path: string; content: string }[] => [
  { path: 'secret.txt', content: `${text}\n` },
  { path: 'secret.ipynb', content: notebookOf(text) },
  { path: `${text}.txt`, content: 'named\n' },
];

/** What a service and its neighbours hold that no run may see. */
export interface Grounds {
  /** The first lies beside the workspaces, and every user of this machine may read it. */
  readonly outsides: readonly Outside[];
  /** Stands in all of them and nowhere else. */
  readonly canary: string;
  /** Fails if a text holds anything from there, or a token of a run, or this machine's users. */
  assertNoneIn(text: string, what: string): void;
  /** Fails if anything there has changed, anything was planted but in these workspaces, or a model was told of it. */
  assertUntouched(workspaces?: readonly string[]): Promise<void>;
  /** Ends the other run, and takes away what is not deleted with the service. */
  clear(): Promise<void>;
}

/**
 * Puts canaries beside the workspaces, above them, into the data and run directories, into the kept files of another
 * key's conversation, and into the slot of another run, which goes on until `clear`.
 */
export async function layCanaries(service: TestService): Promise<Grounds> {
  const canary = `canary-${randomBytes(12).toString('hex')}`;
  const { runDir } = service.sallyport.settings;
  const kept = await keptWith(service, canary);
  const other = await slotWith(service, canary);
  const made: Outside[] = [
    { name: 'beside', directory: join(service.root, 'beside') },
    { name: 'above', directory: join(dirname(service.root), 'above') },
    { name: 'data', directory: join(service.dataDir, 'canaries') },
    { name: 'run', directory: join(runDir, 'canaries') },
  ];
  for (const { directory } of made) {
    await mkdir(directory);
    for (const { path, content } of filesWith(canary)) await writeFile(join(directory, path), content);
    await writeFile(join(directory, 'closed.txt'), canary, { mode: 0o600 });
  }
  const [beside] = made;
  if (beside) await giveToProjectUser(beside.directory);
  const outsides = [...made, { name: 'kept', directory: kept }, { name: 'slot', directory: other.slot }];
  const contents = await contentsOf(outsides);
  const secret = new RegExp(`${canary}|sallyport-run-|root:x?:0:0:root`, 'u');
  const assertNoneIn = (text: string, what: string) => assert.equal(secret.exec(text)?.[0], undefined, what);
  return {
    outsides,
    canary,
    assertNoneIn,
    async assertUntouched(workspaces = []) {
      assert.deepEqual(await contentsOf(outsides), contents);
      assert.deepEqual(await plantedPaths(service, workspaces), []);
      assertNoneIn(JSON.stringify(service.simulator.requests.map(({ body }) => body)), 'model calls');
    },
    async clear() {
      await other.end();
      await rm(join(runDir, 'canaries'), { recursive: true });
    },
  };
}

/** Where the files of a conversation of another key are kept. */
async function keptWith(service: TestService, text: string): Promise<string> {
  const body = { prompt: scripted([{ text: 'Kept.' }]), files: filesWith(text) };
  const { status } = await call(service, 'POST', 'conversation/start?session_id=kept-canaries', body, masterKey);
  assert.equal(status, 200);
  const kept = join(service.dataDir, 'workspaces');
  const [name = ''] = (await readdir(kept)).filter((entry) => entry !== 'place');
  return join(kept, name);
}

/** The slot of a run that goes on until it is ended. */
async function slotWith(
  service: TestService,
  text: string,
): Promise<{ id: string; slot: string; end(): Promise<void> }> {
  const before = service.sallyport.processes().map(({ id }) => id);
  const leaving = new AbortController();
  const prompt = scripted([{ text: 'word '.repeat(600), rate: 1 }]);
  const run = send(service, 'query', { prompt, files: filesWith(text), timeout: 300 }, leaving.signal);
  let isOver = false;
  const over = run.then((response) => response.text()).catch(String);
  void over.finally(() => (isOver = true));
  const found = () => service.sallyport.processes().find(({ id }) => !before.includes(id));
  await until(() => isOver || found() !== undefined);
  if (isOver) assert.fail(`the other run does not go on: ${await over}`);
  const { id = '' } = found() ?? {};
  const slot = join(service.sallyport.settings.runDir, 'jails', id, 'slot');
  assert.equal(await readFile(join(slot, 'secret.txt'), 'utf8'), `${text}\n`);
  return {
    id,
    slot,
    async end() {
      const wasThere = !isOver;
      leaving.abort();
      await over;
      assert.ok(wasThere, 'the other run went on to the end');
    },
  };
}

/** What stands in the directories outside. */
async function contentsOf(outsides: readonly Outside[]): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const { directory } of outsides) {
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      found[path] = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => error.code ?? '');
    }
  }
  return found;
}

const systemPlaces = ['/', '/tmp', '/etc', '/usr', '/root', '/home', '/dev/shm', '/run', '/var/tmp'];

/** Paths of this machine that only a hostile call can have made, but for those inside `except`. */
async function plantedPaths(service: TestService, except: readonly string[]): Promise<string[]> {
  const below = async (directory: string, recursive: boolean) =>
    (await readdir(directory, { recursive }).catch(() => [])).map((name) => join(directory, name));
  const own = [dirname(service.root), service.sallyport.settings.runDir];
  const found = await Promise.all([
    ...own.map((directory) => below(directory, true)),
    ...systemPlaces.map((directory) => below(directory, false)),
  ]);
  const isExcepted = (path: string) => except.some((directory) => path.startsWith(`${directory}/`));
  return found.flat().filter((path) => path.includes(planted) && !isExcepted(path));
}

/** Has a suite begin with a jailed service and canaries around it, and takes both away behind its last test. */
export function onGrounds(
  take: (made: { readonly service: TestService; readonly grounds: Grounds }) => void,
  options: TestServiceOptions = {},
): void {
  let service: TestService | undefined;
  let grounds: Grounds | undefined;
  before(async () => {
    service = await startService(options);
    assert.equal(service.sallyport.jailed, true);
    grounds = await layCanaries(service);
    take({ service, grounds });
  });
  after(async () => {
    try {
      await grounds?.clear();
    } finally {
      await service?.close();
    }
  });
}
