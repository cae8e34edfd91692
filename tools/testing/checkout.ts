import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const TOOLS = dirname(dirname(fileURLToPath(import.meta.url)));
const PACKAGE = `node-${process.platform}-${process.arch}`;

/** What the stand-in for npm does. */
export interface FakeNpm {
  delayMs?: number;
  output?: string;
  exitCode?: number;
  installs?: boolean;
}

/** One note that the stand-in for npm left. */
export interface NpmNote {
  what: 'begin' | 'end';
  folder: string;
  pid: number;
  version: string;
  args: string[];
  proxy?: string;
}

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Running {
  child: ChildProcess;
  /** Resolves once the text stands in stdout or stderr. */
  shows(text: string): Promise<void>;
  ended: Promise<Ended>;
}

/** The oldest Node.js that can be found on PATH, from 18 on; the current one when there is no other. */
export const otherNode = findOtherNode();

function findOtherNode(): { path: string; version: string } {
  const candidates = (process.env['PATH'] ?? '').split(':').map((folder) => join(folder, 'node'));
  const others = candidates.filter((path) => existsSync(path) && realpathSync(path) !== realpathSync(process.execPath));
  const found = others.flatMap((path) => {
    const version = spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout?.trim() ?? '';
    return Number(/^v(\d+)\./.exec(version)?.[1]) >= 18 ? [{ path, version }] : [];
  });
  return found[0] ?? { path: process.execPath, version: process.version };
}

/** A fresh checkout in a folder of its own, whose pinned Node.js is the current one and whose npm is a stand-in. */
export class Checkout {
  readonly root = mkdtempSync(join(tmpdir(), 'sallyport-run-'));
  readonly lock = join(this.root, '.local', 'install.lock');
  readonly stamp = join(this.root, 'node_modules', '.sallyport-stamp');
  readonly #notes = join(this.root, 'npm-notes');
  readonly #pin = join(this.root, 'tools', 'node-pin');

  constructor() {
    for (const path of ['run.mjs', 'lib'])
      cpSync(join(TOOLS, path), join(this.root, 'tools', path), { recursive: true });
    this.write('tools/node-pin/package.json', {
      version: process.versions.node,
      optionalDependencies: { [PACKAGE]: process.versions.node },
    });
    this.write('package-lock.json', { lockfileVersion: 3 });
  }

  write(path: string, content: string | object): string {
    const file = join(this.root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    return file;
  }

  /** Says that the installed Node.js is another version than the pinned one. */
  agePinnedNode(): void {
    writeFileSync(join(this.#pin, 'node_modules', PACKAGE, 'package.json'), '{ "version": "1.0.0" }');
  }

  npmNotes(): NpmNote[] {
    if (!existsSync(this.#notes)) return [];
    const lines = readFileSync(this.#notes, 'utf8').trim().split('\n');
    return lines.map((line) => JSON.parse(line) as NpmNote);
  }

  /** The folders in which npm was run, in order. */
  installs(): string[] {
    const root = this.root.split('/').at(-1);
    const begun = this.npmNotes().filter(({ what }) => what === 'begin');
    return begun.map(({ folder }) => (folder === root ? 'root' : folder));
  }

  start(args: string[], npm: FakeNpm = {}): Running {
    const fake = { ...npm, notes: this.#notes, packageName: PACKAGE };
    const node = { path: process.execPath, version: process.versions.node };
    const child = spawn(otherNode.path, [join(this.root, 'tools', 'run.mjs'), ...args], {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: '/usr/bin:/bin',
        HTTPS_PROXY: 'http://proxy.example:3128',
        npm_execpath: this.#fakeNpm(),
        FAKE_NPM: JSON.stringify({ ...fake, node }),
      },
    });
    return watch(child);
  }

  run(args: string[], npm: FakeNpm = {}): Promise<Ended> {
    return this.start(args, npm).ended;
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  #fakeNpm(): string {
    this.write('npm/package.json', { type: 'module' });
    const file = join(this.root, 'npm', 'npm-cli.js');
    cpSync(join(TOOLS, 'testing', 'fake-npm-cli.js'), file);
    return file;
  }
}

function watch(child: ChildProcess): Running {
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]!.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
      child.emit('output');
    });
  }
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...output }));
  return {
    child,
    ended,
    async shows(text) {
      const over = ended.then(() => {
        throw new Error(`ended without showing ${text}: ${JSON.stringify(output)}`);
      });
      while (!`${output.stdout}${output.stderr}`.includes(text)) await Promise.race([once(child, 'output'), over]);
      over.catch(() => undefined);
    },
  };
}
