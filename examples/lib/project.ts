import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, realpath, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { atExit } from './exit.ts';

const files: Readonly<Record<string, string>> = {
  'README.md': '# Greeter\n\nSays hello.\n',
  'src/greet.js': "export function greet(name) {\n  return 'Hello ' + name;\n}\n",
  'src/main.js': "import { greet } from './greet.js';\n\nconsole.log(greet(process.argv[2]));\n",
};

/** A small git repository in a temporary directory, which also has room for the service's data. */
export class Project {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
    atExit(() => rmSync(directory, { recursive: true, force: true }));
  }

  static async create(): Promise<Project> {
    const project = new Project(await realpath(await mkdtemp(join(tmpdir(), 'sp-example-'))));
    for (const [path, content] of Object.entries(files)) {
      const file = join(project.path, path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, content);
    }
    await project.#git('init', '--quiet');
    await project.#git('add', '.');
    await project.#git('-c', 'user.name=Example', '-c', 'user.email=example@localhost', 'commit', '-qm', 'A greeter');
    if (process.getuid?.() === 0) await project.#openToOthers();
    return project;
  }

  /** It goes with all that is in it when the program ends. */
  get directory(): string {
    return this.#directory;
  }

  /** The repository. */
  get path(): string {
    return join(this.#directory, 'greeter');
  }

  /** What differs from the commit, as git tells it; new files too. */
  async diff(): Promise<string> {
    await this.#git('add', '--intent-to-add', '.');
    return await this.#git('diff', '--no-color', '--no-ext-diff');
  }

  /** A server that runs as root still runs Claude Code as another user, who has to be able to come in and to write. */
  async #openToOthers(): Promise<void> {
    await chmod(this.#directory, 0o755);
    for (const path of ['', 'src']) await chmod(join(this.path, path), 0o777);
    for (const path of Object.keys(files)) await chmod(join(this.path, path), 0o666);
  }

  async #git(...args: readonly string[]): Promise<string> {
    const env = { PATH: process.env['PATH'], HOME: this.#directory }; // none of the user's own settings
    const { stdout } = await promisify(execFile)('git', args, { cwd: this.path, env });
    return stdout;
  }
}

/** The lines that a unified diff takes out and puts in, each with its file. Two diffs that say the same have the same. */
export function changedLines(diff: string): string[] {
  let file = '';
  const lines: string[] = [];
  for (const line of diff.split('\n')) {
    if (line.startsWith('+++ ')) file = line.slice(4).replace(/^b\//u, '').trimEnd();
    else if (/^[+-](?!-- )/u.test(line)) lines.push(`${file}: ${line}`);
  }
  return lines.toSorted();
}
