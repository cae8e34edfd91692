import { isTestCode } from './imports.ts';
import type { Violation } from './imports.ts';
import { importsOf, lineAt } from './source.ts';
import type { Source } from './source.ts';

/** A pattern that code may hold at few places only. */
interface TextRule {
  rule: string;
  pattern: RegExp;
  detail: string;
  /** Which files it binds. */
  binds: (path: string) => boolean;
}

const inPackages = (path: string) => path.startsWith('packages/') && !isTestCode(path);
const inServer = (path: string) => path.startsWith('packages/server/src/') && !isTestCode(path);
const readsEnvironment = (path: string) =>
  /^packages\/[^/]+\/src\/main\.ts$/.test(path) || path === 'packages/server/src/config/settings.ts';

const TEXT_RULES: TextRule[] = [
  {
    rule: 'environment',
    pattern: /\bprocess\s*\??\.\s*env\b|\bprocess\s*(?:\?\.)?\[|\benv\b[^=;\n]*\}\s*=\s*process\b/g,
    detail: 'only config/settings.ts and main.ts read the environment',
    binds: (path) => inPackages(path) && !readsEnvironment(path),
  },
  {
    rule: 'clock',
    pattern:
      /\bDate\s*\.\s*now\b|\bnew\s+Date\s*(?:\(\s*\)|(?=[^\s(]))|(?<!\bnew\s+|[.\w])Date\s*\(|\bperformance\s*\.\s*now\b|\bhrtime\b|\bTemporal\s*\.\s*Now\b/g,
    detail: 'only engine/clock.ts reads the clock; take a Clock',
    binds: (path) => inServer(path) && path !== 'packages/server/src/engine/clock.ts',
  },
  {
    rule: 'randomness',
    pattern:
      /\b(?:randomUUID(?:v7)?|randomBytes|randomInt|randomFill(?:Sync)?|getRandomValues)\b|\bMath\s*\.\s*random\b/g,
    detail: 'only engine/ids.ts draws randomness',
    binds: (path) => inServer(path) && path !== 'packages/server/src/engine/ids.ts',
  },
  {
    rule: 'shell',
    pattern: /\bshell\s*:\s*(?:true\b|['"`])/g,
    detail: 'programs are started from argv arrays',
    binds: () => true,
  },
  {
    rule: 'no skipped tests',
    pattern: /\b(?:it|test|describe|suite)\s*\.\s*(?:skip|only|todo)\b/g,
    detail: 'a test runs or does not exist; leftOut() tells of a missing system package',
    binds: () => true,
  },
];

/** Checks one file's text against the rules above, and its comments and catches against those below. */
export function textViolations(file: Source): Violation[] {
  const found = TEXT_RULES.filter(({ binds }) => binds(file.path)).flatMap(({ rule, pattern, detail }) =>
    Array.from(file.code.matchAll(pattern), ({ index }) => ({
      path: file.path,
      line: lineAt(file.text, index),
      rule,
      detail,
    })),
  );
  return [...found, ...environmentImports(file), ...shellImports(file), ...silencers(file), ...openCatches(file)];
}

function environmentImports(file: Source): Violation[] {
  if (!inPackages(file.path) || readsEnvironment(file.path)) return [];
  return importsOf(file)
    .filter(({ specifier, clause }) => /^(node:)?process$/.test(specifier) && !/^\s*\{(?![^}]*\benv\b)/.test(clause))
    .map(({ line }) => ({
      path: file.path,
      line,
      rule: 'environment',
      detail: 'the process module hands out the environment; import single names of it',
    }));
}

/** `exec` and `execSync` of child_process take a line for a shell. */
function shellImports(file: Source): Violation[] {
  const imports = importsOf(file).filter(({ specifier }) => /^(node:)?child_process$/.test(specifier));
  return imports.flatMap(({ line, clause }) => {
    const whole = /^\s*(?:\*\s*as\s+)?(\w+)\s*$/.exec(clause)?.[1];
    const called = whole && new RegExp(`\\b${whole}\\s*\\.\\s*exec(?:Sync)?\\b`).test(file.code);
    if (!called && !/\bexec(?:Sync)?\b(?!File)/.test(clause)) return [];
    return [{ path: file.path, line, rule: 'shell', detail: 'exec and execSync start a shell; use execFile or spawn' }];
  });
}

/** A comment that turns a check off says why, after two dashes. */
function silencers(file: Source): Violation[] {
  const comments = file.comments.matchAll(/(?:@ts-(?:ignore|nocheck|expect-error)|(?:oxlint|eslint)-disable)\b[^\n]*/g);
  return Array.from(comments).flatMap(({ 0: text, index }) => {
    if (/ -- \S/.test(text)) return [];
    const detail = `${text.trim()}: say why after " -- "`;
    return [{ path: file.path, line: lineAt(file.text, index), rule: 'silenced checks', detail }];
  });
}

const FAIL_CLOSED = /^packages\/server\/src\/(?:engine\/policy|claude\/hooks|http\/auth)[^/]*(?:\/.*)?\.ts$/;
const ALLOWS = /(?<!\bnot )\ballow/i;

/** In policy, hooks and authentication no failure may lead to a permission. */
function openCatches(file: Source): Violation[] {
  if (!FAIL_CLOSED.test(file.path) || isTestCode(file.path)) return [];
  const heads = file.code.matchAll(/\bcatch\b\s*(?:\([^)]*\)\s*)?\{|\.\s*catch\s*\(/g);
  return Array.from(heads).flatMap((head) => {
    const start = head.index + head[0].length;
    if (!ALLOWS.test(file.bare.slice(start, closingOf(file.code, start)))) return [];
    const detail = 'a failure leads to allow; it must lead to deny';
    return [{ path: file.path, line: lineAt(file.text, head.index), rule: 'fail closed', detail }];
  });
}

/** Where the bracket closes that was opened just before `start`. */
function closingOf(code: string, start: number): number {
  let depth = 1;
  for (let at = start; at < code.length; at += 1) {
    if ('({['.includes(code[at]!)) depth += 1;
    if (')}]'.includes(code[at]!)) depth -= 1;
    if (depth === 0) return at;
  }
  return code.length;
}
