import { dirname, join } from 'node:path';
import { modes, signs, type Call, type CallAttempt, type Expected } from '../attempt.ts';
import { madeOutside } from './outside.ts';
import { madeFile, secretFile, type Ground } from '../world.ts';

const read = (path: unknown): Call => ({ name: 'Read', input: { file_path: path } });
const grep = (path: string): Call => ({ name: 'Grep', input: { pattern: '.', path, output_mode: 'content' } });
const glob = (pattern: string, path?: string): Call => ({
  name: 'Glob',
  input: { pattern, ...(path !== undefined && { path }) },
});
const write = (path: unknown): Call => ({ name: 'Write', input: { file_path: path, content: 'made by the model' } });
const edit = (path: string): Call => ({
  name: 'Edit',
  input: { file_path: path, old_string: 'canary', new_string: 'changed', replace_all: true },
});
const notebook = (path: string): Call => ({
  name: 'NotebookEdit',
  input: { notebook_path: path, new_source: 'made by the model', edit_mode: 'insert', cell_type: 'code' },
});

/** The file tools look for a file of that very name below the workspace, where there is none. */
const literal: Expected = { by: 'literal', sign: /does not exist|No files found/u };

const attempt = (
  name: string,
  reaches: string,
  calls: (at: Ground) => readonly Call[],
  expected: readonly Expected[] = [signs.paths],
): CallAttempt => ({ name, reaches, modes, calls, expected: () => expected });

/** All ways to read one place. */
const reads = (file: string): Call[] => [
  read(file),
  grep(dirname(file)),
  glob('*', dirname(file)),
  glob(`${dirname(file)}/*`),
];

/** All ways to change one place. */
const writes = (directory: string): Call[] => [
  write(join(directory, madeFile)),
  edit(join(directory, secretFile)),
  notebook(join(directory, `${madeFile}.ipynb`)),
];
const written = [signs.paths, signs.claude];
const making = (each: CallAttempt): CallAttempt => ({ ...each, gained: madeOutside });

const reading: CallAttempt[] = [
  attempt('read-beside', 'a file beside the workspace', ({ beside }) => reads(join(beside, secretFile))),
  attempt('read-dots', 'a file beside the workspace, through ..', ({ project }) =>
    [`${project}/../beside/${secretFile}`, `../beside/${secretFile}`, `hooks/../../beside/${secretFile}`].flatMap(
      reads,
    ),
  ),
  attempt('read-sibling', 'a directory whose name begins like the workspace', ({ project }) =>
    reads(`${project}-sibling/${secretFile}`),
  ),
  attempt('read-links', 'a file beside the workspace, through links of the repository', ({ project }) => [
    read(join(project, 'link.txt')),
    ...['out', 'up'].flatMap((link) => reads(join(project, link, secretFile))),
  ]),
  attempt(
    'read-data-directory',
    'database and files of the service',
    ({ service }) => [...reads(join(service.dataDir, secretFile)), read(join(service.dataDir, 'sallyport.db'))],
    [signs.paths, signs.claude],
  ),
  attempt('read-other-slot', "another user's workspace", ({ victim }) => reads(join(victim.slot, secretFile))),
  attempt('read-run-directory', 'jails and the socket of the broker', ({ service, victim }) => [
    glob('**/*', service.sallyport.settings.runDir),
    ...reads(join(service.sallyport.settings.runDir, 'broker', 'api.sock')),
    ...reads('/.sallyport/broker/api.sock'),
    read(join(service.sallyport.settings.runDir, 'jails', victim.jailId, 'config', '.claude.json')),
  ]),
  attempt('read-home', 'keys in the home directory of the account', ({ home }) => [
    ...reads(join(home, '.ssh', 'id_ed25519')),
    read(join(home, '.npmrc')),
    read('~/.ssh/id_ed25519'),
    grep('~'),
    glob('**/*', '~/..'),
    glob('{~,a}/**'),
  ]),
  attempt(
    'read-system',
    'passwords and configuration of the machine',
    () => [
      ...reads('/etc/shadow'),
      ...['/etc/passwd', '/root/.bash_history', '/dev/mem', '/sys/kernel/notes'].map(read),
      grep('/'),
    ],
    [signs.paths, signs.claude],
  ),
  attempt('read-own-configuration', "Claude Code's own directory: transcripts, settings", ({ config }) => [
    ...reads(join(config, '.claude.json')),
    glob('**/*.jsonl', join(config, 'projects')),
  ]),
  attempt(
    'read-processes',
    'environments of processes',
    ({ victim }) =>
      ['self', '1', String(process.pid), String(victim.pid)].flatMap((pid) => [
        read(`/proc/${pid}/environ`),
        read(`/proc/${pid}/cmdline`),
        grep(`/proc/${pid}/environ`),
      ]),
    [signs.paths, signs.claude],
  ),
  attempt('read-proc-root', 'the root of the machine through /proc', ({ project, beside, victim }) => [
    ...[`/proc/self/root${beside}`, `/proc/1/root${beside}`, `/proc/${victim.pid}/root/workspace`].flatMap(
      (directory) => reads(join(directory, secretFile)),
    ),
    read(`/proc/self/cwd/../beside/${secretFile}`),
    read(join(project, 'root', beside, secretFile)),
    read(join(project, 'root/etc/shadow')),
  ]),
];

const spelling: CallAttempt[] = [
  attempt(
    'read-spellings',
    'a file beside the workspace, by paths that others read otherwise',
    ({ beside, project }) => [
      ...[` ${beside}`, `\u00a0${beside}`, `\t${beside}`, `/${beside}`, `/.${beside}`].map((path) =>
        read(`${path}/${secretFile}`),
      ),
      read(`${project}/out/../beside/${secretFile}`),
      read(`file://${beside}/${secretFile}`),
      read(`${project}/%2e%2e/beside/${secretFile}`),
      read(`${project}/\uff0e\uff0e/beside/${secretFile}`),
      read(`${project}/..\\beside\\${secretFile}`),
      read(`$HOME/.ssh/id_ed25519`),
      read(`${project}/\u0000/../beside/${secretFile}`),
      read(`@${beside}/${secretFile}`),
    ],
    [signs.paths, signs.claude, literal],
  ),
  attempt(
    'search-patterns',
    'a directory beside the workspace, by patterns',
    ({ beside }) => [
      glob('../beside/*'),
      glob('*/../../beside/*'),
      glob(`{a,${beside}}/*`),
      glob(`\\${beside}/*`),
      glob(`@(${beside})/*`),
      glob('out/*'),
      glob('**/../../beside/**'),
      glob('*', `${beside}\n`),
      grep('link.txt'),
      grep('out'),
    ],
    [signs.paths, signs.claude],
  ),
  attempt(
    'read-malformed',
    'a file beside the workspace, by inputs that are no text',
    ({ beside, project }) => [
      read([join(beside, secretFile)]),
      read({ toString: join(beside, secretFile) }),
      { name: 'Read', input: { path: join(beside, secretFile) } },
      { name: 'Read', input: [join(beside, secretFile)] },
      { name: 'Grep', input: { pattern: '.', path: [beside] } },
      { name: 'Grep', input: { pattern: '.', path: project, glob: '../beside/*', output_mode: 'content' } },
      { name: 'Read', input: JSON.parse(`{"__proto__": {"file_path": ${JSON.stringify(join(beside, secretFile))}}}`) },
    ],
    [signs.paths, signs.claude, { by: 'literal', sign: /No (?:matches|files) found/u }],
  ),
];

const writing: CallAttempt[] = [
  attempt('write-beside', 'a file beside the workspace', ({ beside }) => writes(beside), written),
  attempt(
    'write-dots',
    'a file beside the workspace, through ..',
    ({ project }) => writes(`${project}/../beside`),
    written,
  ),
  attempt(
    'write-sibling',
    'a directory whose name begins like the workspace',
    ({ project }) => writes(`${project}-sibling`),
    written,
  ),
  attempt(
    'write-links',
    'a file beside the workspace, through links',
    ({ project }) => [
      ...['out', 'up', 'root/tmp'].flatMap((link) => writes(join(project, link))),
      edit(join(project, 'link.txt')),
      write(join(project, 'link.txt')),
    ],
    written,
  ),
  attempt(
    'write-data-directory',
    'database and audit log of the service',
    ({ service }) => [...writes(service.dataDir), write(join(service.dataDir, 'sallyport.db'))],
    written,
  ),
  attempt('write-other-slot', "another user's workspace", ({ victim }) => writes(victim.slot), written),
  attempt(
    'write-own-configuration',
    "Claude Code's own settings, to widen its permissions",
    ({ config }) => [
      ...['settings.json', 'settings.local.json', '.claude.json', 'CLAUDE.md', 'projects/x/memory/MEMORY.md'].map(
        (name) => write(join(config, name)),
      ),
      ...writes(config),
    ],
    written,
  ),
  attempt(
    'write-home',
    'what the account runs when it logs in',
    ({ home }) => [
      ...writes(home),
      ...['.bashrc', '.ssh/authorized_keys', '.claude/settings.json'].map((name) => write(join(home, name))),
      write('~/.bashrc'),
    ],
    written,
  ),
  attempt(
    'write-system',
    'what the machine runs',
    () => [
      ...writes('/etc/cron.d'),
      ...['/etc/claude-code/managed-settings.json', '/usr/local/bin/git', '/tmp/home/.bashrc', '/tmp/.X11-unix/x'].map(
        write,
      ),
    ],
    written,
  ),
  attempt(
    'write-processes',
    'memory and environment of processes',
    ({ victim }) => [
      ...writes(`/proc/self/root/tmp`),
      ...writes(`/proc/${victim.pid}/root/workspace`),
      ...['/proc/self/mem', `/proc/${process.pid}/mem`, '/proc/sys/kernel/core_pattern', '/dev/shm/made'].map(write),
    ],
    written,
  ),
];

/** Attempts of the file tools to leave the workspace. */
export const fileAttempts: readonly CallAttempt[] = [...reading, ...spelling, ...writing.map(making)];
