import { readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join, posix, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's folder. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** What no commit holds; the same names as in .gitignore. */
const NOT_OURS = new Set(['.git', 'node_modules', 'dist', 'coverage', '.local', '.env']);

/** One source file, with views of its text that keep every character at its place and blank out the rest. */
export interface Source {
  /** From the repository's root, with forward slashes. */
  path: string;
  text: string;
  /** Without comments and without what stands inside strings, templates and regular expressions. */
  code: string;
  /** Without comments. */
  bare: string;
  /** Comments only. */
  comments: string;
}

/** One `import`, `export … from`, `import()` or `require()` with a fixed name. */
export interface Import {
  specifier: string;
  line: number;
  /** `import type` or `export type`. */
  typeOnly: boolean;
  /** What stands between the keyword and `from`; empty for the other forms. */
  clause: string;
}

/** Every file of the repository that is not ignored, as paths from its root. */
export function repositoryFiles(folder = ROOT): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    const name = relative(ROOT, path);
    if (
      NOT_OURS.has(entry.name) ||
      name === 'data' ||
      name === 'bench/results' ||
      name === 'soak/results' ||
      name.endsWith('.log')
    )
      return [];
    if (entry.isDirectory()) return repositoryFiles(path);
    return entry.isFile() ? [name] : [];
  });
}

/** The repository's sources in TypeScript and JavaScript. */
export function repositorySources(): Source[] {
  return repositoryFiles()
    .filter((path) => /\.(ts|tsx|mjs|js)$/.test(path))
    .map((path) => source(path, readFileSync(join(ROOT, path), 'utf8')));
}

export function source(path: string, text: string): Source {
  const kinds = classify(text);
  const view = (keep: (kind: number) => boolean) =>
    Array.from(kinds, (kind, at) => (text[at] === '\n' || keep(kind) ? text[at] : ' ')).join('');
  return {
    path,
    text,
    code: view((kind) => kind === CODE),
    bare: view((kind) => kind !== COMMENT),
    comments: view((kind) => kind === COMMENT),
  };
}

/** The line, from 1, of a position in a text. */
export function lineAt(text: string, position: number): number {
  return text.slice(0, position).split('\n').length;
}

export function importsOf({ text, code }: Source): Import[] {
  // A clause holds no '=' or '(': so a declaration before an import does not run into it.
  const fromClause = /\b(?:import|export)\b([^;'"`=()]*?)\bfrom\s*(['"])/g;
  const others = [/\bimport\s*(['"])/g, /\b(?:import|require)\s*\(\s*(['"`])/g];
  const found: Import[] = [];
  const add = (match: RegExpMatchArray, clause: string) => {
    const start = match.index! + match[0].length;
    const specifier = text.slice(start, text.indexOf(match.at(-1)!, start));
    found.push({ specifier, line: lineAt(text, start), typeOnly: /^\s*type\b/.test(clause), clause });
  };
  for (const match of code.matchAll(fromClause)) add(match, match[1]!);
  for (const pattern of others) for (const match of code.matchAll(pattern)) add(match, '');
  return found.filter(({ specifier }) => !specifier.includes('${')).sort((a, b) => a.line - b.line);
}

/** Where an import leads: a path in the repository, a package of ours, a part of Node.js, or a package of npm. */
export type Target =
  | { kind: 'file'; path: string }
  | { kind: 'ours'; name: string; path: string }
  | { kind: 'builtin'; name: string }
  | { kind: 'npm'; name: string };

export function targetOf(from: string, specifier: string): Target {
  if (specifier.startsWith('.')) return { kind: 'file', path: posix.join(posix.dirname(from), specifier) };
  const ours = /^@sallyport\/([^/]+)/.exec(specifier)?.[1];
  if (ours) return { kind: 'ours', name: ours, path: `packages/${ours}/src/index.ts` };
  if (isBuiltin(specifier)) return { kind: 'builtin', name: specifier.replace(/^(node:)?/, 'node:') };
  const [scopeOrName, name] = specifier.split('/');
  return { kind: 'npm', name: specifier.startsWith('@') ? `${scopeOrName}/${name}` : scopeOrName! };
}

const CODE = 0;
const COMMENT = 1;
const LITERAL = 2;

/** After these a slash begins a regular expression; after a name, a number or a closing bracket it divides. */
const BEFORE_REGEX =
  /(?:^|[=([{},;:!&|?+\-*%<>~^]|\b(?:return|typeof|case|in|of|do|else|void|delete|await|yield|throw))\s*$/;
const TOKENS = {
  comment: /\/\/[^\n]*|\/\*[\s\S]*?\*\//y,
  string: /'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"/y,
  regex: /\/(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y,
  /** The text of a template up to its end or to the next `${`. */
  template: /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*(?:`|\$\{)/y,
};

/** Says for each character whether it is code, comment, or the inside of a literal. Quotes count as code. */
function classify(text: string): Uint8Array {
  const kinds = new Uint8Array(text.length);
  /** For each open template: how many braces are open inside its current `${`. */
  const templates: number[] = [];
  let at = 0;
  let codeBefore = '';
  const take = (token: keyof typeof TOKENS): number => {
    TOKENS[token].lastIndex = at;
    return TOKENS[token].exec(text)?.[0].length ?? 0;
  };
  const skip = (kind: number, from: number, to: number, after: number) => {
    kinds.fill(kind, from, to);
    at = after;
  };
  const templateText = () => {
    const end = at + take('template');
    const opensCode = text[end - 1] === '{';
    skip(LITERAL, at, end - (opensCode ? 2 : 1), end);
    if (opensCode) templates.push(0);
    codeBefore = opensCode ? '{' : '"';
  };
  while (at < text.length) {
    const character = text[at]!;
    const comment = character === '/' ? take('comment') : 0;
    if (comment > 0) {
      skip(COMMENT, at, at + comment, at + comment);
      continue;
    }
    const isRegex = character === '/' && BEFORE_REGEX.test(codeBefore);
    const literal = isRegex ? take('regex') : character === "'" || character === '"' ? take('string') : 0;
    if (literal > 0) {
      skip(LITERAL, at + 1, at + literal - 1, at + literal);
      codeBefore = '"';
      continue;
    }
    at += 1;
    codeBefore = (codeBefore + character).slice(-12);
    const open = templates.length - 1;
    if (character === '`') templateText();
    else if (character === '}' && templates[open] === 0) {
      templates.pop();
      templateText();
    } else if (open >= 0 && character === '{') templates[open]! += 1;
    else if (open >= 0 && character === '}') templates[open]! -= 1;
  }
  return kinds;
}
