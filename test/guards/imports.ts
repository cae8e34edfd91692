import { importsOf, targetOf } from './source.ts';
import type { Import, Source, Target } from './source.ts';

/** One broken rule, at one place. */
export interface Violation {
  path: string;
  line: number;
  rule: string;
  detail: string;
}

/** The npm packages that a folder's package.json names; the key is the folder, '' the repository. */
export type Declared = Record<string, string[]>;

/** Code that only tests run. It may use what production code may not, but nothing in production may import it. */
export function isTestCode(path: string): boolean {
  return (
    /\.test\.[a-z]+$/.test(path) ||
    /(^|\/)(test|testing)\//.test(path) ||
    /(\/testing|-support)\.ts$/.test(path) ||
    /^(bench|redteam|soak)\//.test(path)
  );
}

/** What each package may import of ours and of npm. `declared`: whatever its package.json names. */
const PACKAGES: Record<string, { ours: string[]; npm: string[] | 'declared'; builtins: boolean }> = {
  protocol: { ours: [], npm: ['zod'], builtins: false },
  simulator: { ours: [], npm: [], builtins: true },
  server: { ours: ['protocol', 'simulator'], npm: 'declared', builtins: true },
  client: { ours: ['protocol'], npm: [], builtins: false },
  console: { ours: ['client'], npm: 'declared', builtins: false },
};

/** Of the server, what each part may import besides itself and the protocol. */
const LEVEL_2 = ['claude', 'broker', 'stores', 'coordination', 'observe', 'config', 'http', 'webhooks'];
const PARTS: Record<string, string[]> = {
  engine: [],
  ...Object.fromEntries(LEVEL_2.map((part) => [part, ['engine']])),
  compose: ['engine', ...LEVEL_2],
  adapters: ['engine', 'http', 'compose'],
  index: ['engine', 'config', 'http', 'compose', 'adapters'],
  main: ['compose', 'config'],
};

/** What only one part of the server's production code may import. */
const OWNED: { what: RegExp; by: RegExp }[] = [
  { what: /^@anthropic-ai\/claude-agent-sdk$/, by: /^packages\/server\/src\/claude\// },
  { what: /^(fastify|@fastify\/.+|fastify-.+)$/, by: /^packages\/server\/src\/(http|adapters)\// },
  { what: /^(kysely|pg|node:sqlite)$/, by: /^packages\/server\/src\/stores\// },
  { what: /^(@redis\/client|bullmq)$/, by: /^packages\/server\/src\/coordination\// },
  { what: /^node:child_process$/, by: /^packages\/server\/src\/claude\// },
];

/** The part of the server that a path of packages/server/src belongs to. */
function partOf(path: string): string | undefined {
  const inside = /^packages\/server\/src\/(.+)$/.exec(path)?.[1];
  if (inside === undefined) return undefined;
  const first = inside.split('/')[0]!.replace(/\.ts$/, '');
  if (first === 'cli') return 'main';
  if (first === 'version' || first.startsWith('compose-')) return 'compose';
  return first;
}

function packageOf(path: string): string | undefined {
  return /^packages\/([^/]+)\//.exec(path)?.[1];
}

/** Checks one file's imports against the rules above; `declared` holds the dependencies of each package. */
export function importViolations(file: Source, declared: Declared): Violation[] {
  return importsOf(file).flatMap((entry) => {
    const target = targetOf(file.path, entry.specifier);
    const broken = [
      acrossPackages(file.path, target),
      ofPackage(file.path, entry, target, declared),
      ofPart(file.path, target),
      ofOwner(file.path, target),
      ofTestCode(file.path, target),
    ];
    return broken.flatMap((found) => (found ? [{ path: file.path, line: entry.line, ...found }] : []));
  });
}

type Broken = { rule: string; detail: string } | undefined;

function acrossPackages(path: string, target: Target): Broken {
  const own = packageOf(path);
  if (!own || target.kind !== 'file' || packageOf(target.path) === own || !packageOf(target.path)) return undefined;
  return { rule: 'packages', detail: `reaches into ${target.path}; import the package by its name` };
}

function ofPackage(path: string, entry: Import, target: Target, declared: Declared): Broken {
  const own = packageOf(path);
  const rules = own === undefined ? undefined : PACKAGES[own];
  if (!own) return undefined;
  if (!rules) return { rule: 'packages', detail: `packages/${own} has no import rules; write them down in this guard` };
  const test = isTestCode(path);
  const no = (what: string): Broken => ({ rule: 'packages', detail: `packages/${own} may not import ${what}` });
  if (target.kind === 'ours') {
    if (test) return undefined;
    if (!rules.ours.includes(target.name)) return no(`@sallyport/${target.name}`);
    if (own === 'client' && !entry.typeOnly) return no(`@sallyport/${target.name} but as types`);
    if (target.name === 'simulator' && !['compose', 'main'].includes(partOf(path)!)) {
      return no('the simulator but in main, cli and compose');
    }
  }
  if (target.kind === 'builtin' && !rules.builtins && !test) return no(target.name);
  if (target.kind === 'npm') {
    const known = test ? Object.values(declared).flat() : (declared[`packages/${own}`] ?? []);
    if (rules.npm !== 'declared' && !test && !rules.npm.includes(target.name)) return no(target.name);
    if (!known.includes(target.name)) return no(`${target.name}, which its package.json does not name`);
  }
  return undefined;
}

/** Libraries that only compute: they touch nothing outside, so the domain may use them. */
const PURE = ['ajv', 'diff'];

function ofPart(path: string, target: Target): Broken {
  const own = partOf(path);
  if (own === undefined || isTestCode(path)) return undefined;
  const may = PARTS[own];
  if (!may) return { rule: 'levels', detail: `${own} is no part of the server that this guard knows` };
  if (own === 'engine' && target.kind === 'npm' && !PURE.includes(target.name)) {
    const pure = PURE.join(' and ');
    return { rule: 'levels', detail: `engine may import the protocol, Node.js, ${pure} only, not ${target.name}` };
  }
  const other = target.kind === 'file' ? partOf(target.path) : undefined;
  if (other === undefined || other === own || may.includes(other) || other === 'testing') return undefined;
  if (target.kind === 'file' && target.path.endsWith('.json')) return undefined;
  return { rule: 'levels', detail: `${own} may not import ${other}; it may import ${[...may, 'protocol'].join(', ')}` };
}

function ofOwner(path: string, target: Target): Broken {
  if (!packageOf(path) || isTestCode(path) || (target.kind !== 'npm' && target.kind !== 'builtin')) return undefined;
  const owner = OWNED.find(({ what }) => what.test(target.name));
  if (!owner || owner.by.test(path)) return undefined;
  return { rule: 'owners', detail: `only ${owner.by.source.replaceAll('\\', '')} may import ${target.name}` };
}

function ofTestCode(path: string, target: Target): Broken {
  if (isTestCode(path) || target.kind !== 'file' || !isTestCode(target.path)) return undefined;
  return { rule: 'test code', detail: `production code may not import ${target.path}` };
}

/** Finds every loop of imports, imports of types included; each is told once, at its first import. */
export function importCycles(files: Source[]): Violation[] {
  const known = new Set(files.map(({ path }) => path));
  const edges = new Map(
    files.map((file) => [
      file.path,
      importsOf(file).flatMap(({ specifier, line }) => {
        const target = targetOf(file.path, specifier);
        return 'path' in target && known.has(target.path) ? [{ to: target.path, line }] : [];
      }),
    ]),
  );
  const violations: Violation[] = [];
  const done = new Set<string>();
  const walk = (path: string, trail: string[]) => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      const loop = trail.slice(start);
      const line = edges.get(loop[0]!)!.find(({ to }) => to === (loop[1] ?? loop[0]))!.line;
      violations.push({ path: loop[0]!, line, rule: 'cycles', detail: [...loop, path].join(' → ') });
      return;
    }
    if (done.has(path)) return;
    for (const { to } of edges.get(path) ?? []) walk(to, [...trail, path]);
    done.add(path);
  };
  for (const { path } of files) walk(path, []);
  return violations;
}
