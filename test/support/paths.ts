import assert from 'node:assert/strict';
import { link, mkdir, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { planted, type Grounds, type Outside } from './canaries.ts';
import { isRoot, makeProject } from './commands.ts';
import type { TestService } from './service.ts';

/** Where hostile paths start from. */
export interface Start {
  /** The workspace as those see it who take the path. */
  readonly at: string;
  /** The same directory on this host. Its `inner/`, `in.txt` and `in.ipynb` are the only things of its own. */
  readonly disk: string;
  /** The first is led to in every way, the others in a few. */
  readonly outsides: readonly Outside[];
}

/** One way to a directory outside. */
export interface HostilePath {
  readonly name: string;
  /** The directory itself. */
  readonly directory: string;
  /** Files in it, which exist. */
  readonly file: string;
  readonly notebook: string;
  /** A file in it that would have to be made. */
  readonly fresh: string;
  /** True: it leads out, so a call that names it must fail. False: it may be an odd name of something inside. */
  readonly leaves: boolean;
}

type Way = (path: string) => string;

/** Ways to write an absolute path outside that lead to it where nothing stops them. */
function leavingWays({ at }: Start): Record<string, Way> {
  const up: Way = (path) => relative(at, path);
  return {
    absolute: (path) => path,
    dots: (path) => `${at}/${up(path)}`,
    'relative dots': up,
    'dots after a directory': (path) => `${at}/inner/../${up(path)}`,
    'dots after nothing': (path) => `${at}/absent/../${up(path)}`,
    'dots after a file': (path) => `${at}/in.txt/../${up(path)}`,
    'dots after a link': (path) => `${at}/traps/../${up(path)}`,
    'doubled slashes': (path) => path.replaceAll('/', '//'),
    'dots and slashes': (path) => `${at}/./..//./${up(path).slice(3)}`,
    'above the root': (path) => `/../../../..${path}`,
    'own root': (path) => `/proc/self/root${path}`,
    'root of the thread': (path) => `/proc/thread-self/root${path}`,
    'root of the first process': (path) => `/proc/1/root${path}`,
    'root of the server': (path) => `/proc/${process.pid}/root${path}`,
    'own working directory': (path) => `/proc/self/cwd/${up(path)}`,
    'directory of the server': (path) => `/proc/${process.pid}/cwd/../../../../../..${path}`,
    descriptors: (path) => `/dev/fd/../root${path}`,
    'home and up': (path) => `~/../../../..${path}`,
    'many dots': (path) => `${at}/${'inner/../'.repeat(600)}${up(path)}`,
    'many single dots': (path) => `${at}/${'./'.repeat(3000)}${up(path)}`,
    'dots after a long name': (path) => `${at}/${'x'.repeat(300)}/../${up(path)}`,
    'a blank before': (path) => ` ${path}`,
    'a blank after': (path) => `${path} `,
    'a tab before': (path) => `\t${path}`,
    'a line break before': (path) => `\n${path}`,
    'a line break after': (path) => `${path}\n`,
    'a wide blank before': (path) => `\u3000${path}`,
    'a hard blank after': (path) => `${path}\u00a0`,
    'a byte order mark': (path) => `\ufeff${path}`,
    'NUL after a name inside': (path) => `${at}/in.txt\0${path}`,
    'NUL at the end': (path) => `${path}\0`,
    'NUL and an ending': (path) => `${path}\0.txt`,
  };
}

/** Ways that lead out only for those who read more into a name than is in it. */
function oddWays({ at }: Start): Record<string, Way> {
  const up: Way = (path) => relative(at, path);
  const dots = (dot: string) => (path: string) => `${at}/${up(path).replaceAll('..', dot)}`;
  const slashes = (slash: string) => (path: string) => `${at}/${up(path).replaceAll('/', slash)}`;
  return {
    'wide dots': dots('\uff0e\uff0e'),
    'leader dots': dots('\u2024\u2024'),
    'a leader of two dots': dots('\u2025'),
    'dots with nothing between': dots('.\u200b.'),
    'wide slashes': slashes('\uff0f'),
    'division slashes': slashes('\u2215'),
    backslashes: slashes('\\'),
    'backslashes from the start': (path) => `${at}\\${up(path).replaceAll('/', '\\')}`,
    'percent dots': dots('%2e%2e'),
    'percent slashes': slashes('%2f'),
    'percent for all': (path) => `${at}/${up(path).replaceAll('..', '%2e%2e').replaceAll('/', '%2f')}`,
    'percent twice': (path) => `${at}/${up(path).replaceAll('..', '%252e%252e').replaceAll('/', '%252f')}`,
    'percent too long': dots('%c0%ae%c0%ae'),
    'three dots': dots('...'),
    'address of a file': (path) => `file://${path}`,
    'home of root': (path) => `~root/../../..${path}`,
    'a variable': (path) => `$HOME/../../..${path}`,
    'a command': (path) => `$(echo ${path})`,
    quotes: (path) => `"${path}"`,
    'an option': (path) => `--file=${path}`,
    'an at sign': (path) => `@${path}`,
    'two paths': (path) => `${at}/in.txt:${path}`,
    'two lines': (path) => `${at}/in.txt\n${path}`,
    braces: (path) => `{${at}/in.txt,${path}}`,
  };
}

const throughWay = ({ directory }: Outside, name: string, leaves: boolean, way: Way): HostilePath => ({
  name,
  directory: way(directory),
  file: way(join(directory, 'secret.txt')),
  notebook: way(join(directory, 'secret.ipynb')),
  fresh: way(join(directory, `${planted}.txt`)),
  leaves,
});

/** Puts the links into the workspace that `hostilePaths` goes through. Claude Code's user need not own them. */
export async function layTraps({ at, disk, outsides }: Start): Promise<void> {
  const trap = (name: string) => join(disk, 'traps', name);
  await mkdir(join(disk, 'real-traps'));
  await symlink('real-traps', join(disk, 'traps'));
  for (const { name, directory } of outsides) {
    await symlink(directory, trap(name));
    await symlink(join(directory, 'secret.txt'), trap(`${name}.txt`));
    await symlink(join(directory, 'secret.ipynb'), trap(`${name}.ipynb`));
    await symlink(join(directory, `${planted}-dangling.txt`), trap(`${name}-dangling`));
  }
  const first = outsides[0]?.directory ?? '/';
  await symlink('two', trap('one'));
  await symlink('three', trap('two'));
  await symlink(first, trap('three'));
  await symlink(relative(join(disk, 'real-traps'), first), trap('relative'));
  await symlink('/', trap('root'));
  await symlink('/proc/self/root', trap('self'));
  await symlink('/proc/self/cwd/..', trap('cwd'));
  await symlink('.', trap('here'));
  await symlink('loop', trap('loop'));
  // What the user of a project may not read is no more open to it under a second name. In a slot nobody could make it.
  if (isRoot && at === disk) await link(join(first, 'closed.txt'), trap('hard.txt'));
}

/** What workspaces of these tests hold beside the traps. */
export const insideFiles = { 'in.txt': 'inside-of-it\n', 'inner/deep.txt': 'inside-of-it\n' };

/** A project with the traps, as everybody sees it. */
export async function trappedProject(
  service: TestService,
  { outsides }: Grounds,
  name: string,
  more: Readonly<Record<string, string>> = {},
): Promise<Start> {
  const project = await makeProject(service, name, { ...insideFiles, ...more });
  const start = { at: project, disk: project, outsides };
  await layTraps(start);
  return start;
}

/** The slot of the only run that was not there before, on this host. */
export function slotBeside({ sallyport }: TestService, before: readonly string[]): string {
  const [own, ...others] = sallyport.processes().filter(({ id }) => !before.includes(id));
  assert.ok(own && others.length === 0);
  return join(sallyport.settings.runDir, 'jails', own.id, 'slot');
}

/** Ways through the links of `layTraps`. */
function linkPaths({ at, outsides }: Start): HostilePath[] {
  const [first] = outsides;
  if (!first) return [];
  const replaced = (link: string) => (path: string) => `${at}/traps/${link}${path.slice(first.directory.length)}`;
  const below = (link: string) => (path: string) => `${at}/traps/${link}${path}`;
  const deep = `${at}/traps/${'here/'.repeat(50)}`;
  const ways: Record<string, Way> = {
    'a chain of links': replaced('one'),
    'a relative link': replaced('relative'),
    'a link to the root': below('root'),
    'a link to the own root': below('self'),
    'dots after a link outside': (path) => `${at}/traps/${first.name}/../${relative(dirname(first.directory), path)}`,
    'too many links': (path) => `${deep}${first.name}${path.slice(first.directory.length)}`,
  };
  const single = (name: string, path: string): HostilePath => ({
    name,
    directory: path,
    file: path,
    notebook: path,
    fresh: path,
    leaves: true,
  });
  const links = outsides.map(({ name, directory }): HostilePath => {
    const way = (path: string) => `${at}/traps/${name}${path.slice(directory.length)}`;
    return throughWay({ name, directory }, `a link to ${name}`, true, way);
  });
  const files = outsides.map(({ name }): HostilePath => ({
    name: `a link to a file of ${name}`,
    directory: `${at}/traps/${name}.txt`,
    file: `${at}/traps/${name}.txt`,
    notebook: `${at}/traps/${name}.ipynb`,
    fresh: `${at}/traps/${name}-dangling`,
    leaves: true,
  }));
  return [
    ...Object.entries(ways).map(([name, way]) => throughWay(first, name, true, way)),
    ...links,
    ...files,
    single('a loop', `${at}/traps/loop`),
    single('the working directory above', `${at}/traps/cwd`),
    // A hard link is a file of the workspace like any other: who may not read it, may not.
    { ...single('a hard link', `${at}/traps/hard.txt`), leaves: false },
  ];
}

const places = [
  '/',
  '..',
  '../..',
  '~',
  '~/..',
  '/proc/self/environ',
  '/proc/1/environ',
  '/proc/self/mem',
  '/etc/shadow',
];
const moreOutside = [
  '/proc/self/fd/0',
  '/dev/stdin',
  '/dev/zero',
  '/proc/self/maps',
  '/.sallyport/broker/api.sock',
  '/tmp',
];

/** All hostile paths, each with a name of its own. */
export function hostilePaths(start: Start): HostilePath[] {
  const { at, outsides } = start;
  const [first, ...others] = outsides;
  if (!first) return [];
  const single = (path: string, leaves: boolean): HostilePath => {
    const fresh = leaves ? `${path}/${planted}.txt` : path;
    return { name: JSON.stringify(path), directory: path, file: path, notebook: path, fresh, leaves };
  };
  const few = ['absolute', 'dots', 'own root', 'root of the server'];
  const all = Object.entries(leavingWays(start));
  const sibling = { name: 'a sibling', directory: `${at}b` };
  return [
    ...all.map(([name, way]) => throughWay(first, name, true, way)),
    ...Object.entries(oddWays(start)).map(([name, way]) => throughWay(first, name, false, way)),
    ...others.flatMap((outside) =>
      all.flatMap(([name, way]) =>
        few.includes(name) ? [throughWay(outside, `${name} to ${outside.name}`, true, way)] : [],
      ),
    ),
    throughWay(sibling, 'a sibling whose name begins alike', true, (path) => path),
    ...linkPaths(start),
    ...[...places, ...moreOutside].map((path) => single(path, true)),
    ...['', '.', './', `${at}/.`, `${at}/in.txt/`].map((path) => single(path, false)),
  ];
}

/** Paths that no system takes: in one name or as a whole. */
export const longPaths = ({ at }: Start): HostilePath[] =>
  [
    'x'.repeat(256),
    'x'.repeat(5000),
    `${'d/'.repeat(2500)}x`,
    `${'é'.repeat(200)}/x`,
    `inner/${'x'.repeat(300)}/../x`,
  ].map((name) => {
    const path = `${at}/${name}`;
    return { name: `${name.slice(0, 20)}…`, directory: path, file: path, notebook: path, fresh: path, leaves: false };
  });
