/** What the texts of Claude Code's Glob, Grep and Read say, and which files are worth reading. */

/** A listing of Glob. `total` is larger than the number of paths when Glob did not show all. */
export interface Listing {
  paths: string[];
  total: number;
}

/** Reads a Glob result: one path per line, absolute or relative, and perhaps a closing note on how many were left out. */
export function readListing(result: string): Listing {
  const lines = result.split('\n').map((line) => line.trim());
  const paths = lines.filter((line) => line !== '' && !line.startsWith('(') && line !== 'No files found');
  const total = /^\(Showing \d+ of (\d+) matching files/m.exec(result)?.[1];
  return { paths, total: Math.max(paths.length, Number(total ?? 0)) };
}

/** Paths in a Grep result of the mode `files_with_matches`. */
export function readMatches(result: string): string[] {
  const lines = result.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '' && line !== 'No files found' && !/^(Found \d+ |\(|\[)/.test(line));
}

/** Reads a Read result: the numbered lines without their numbers. An empty file has none. */
export function readLines(result: string): string[] {
  const lines = result.split('\n').flatMap((line) => /^ *\d+[\t→](.*)$/.exec(line.replace(/\r$/, ''))?.[1] ?? []);
  // A file that ends in a line break comes with one more, empty line.
  return lines.length > 0 && lines.at(-1) === '' ? lines.slice(0, -1) : lines;
}

/** The parts of a text that may name a file: lower case, three characters at least. */
export function words(text: string): string[] {
  return [...new Set(text.toLowerCase().match(/[\p{L}\p{N}_][\p{L}\p{N}_./-]+[\p{L}\p{N}_]/gu) ?? [])];
}

/** What a text names in backticks or quotes and that looks like an identifier; paths are not. */
export function quotedIdentifiers(text: string): string[] {
  const found = [...text.matchAll(/[`"'“]([A-Za-z_$][\w$]{2,60})[`"'”]/g)].map((match) => match[1] ?? '');
  return [...new Set(found)];
}

const commonWords = new Set(
  'the and for you are what which this that with from have has how all any can does file files read show tell about please into them there where who why directory folder project list'.split(
    ' ',
  ),
);

const mediaFile =
  /\.(png|jpe?g|gif|webp|ico|pdf|zip|gz|tgz|tar|woff2?|ttf|mp[34]|mov|wasm|so|exe|dll|bin|dat|db|sqlite|lock)$/i;
const secretFile = /(^|\/)(\.env[^/]*|\.npmrc|\.netrc|id_[a-z0-9]+|[^/]*\.(pem|key|p12|pfx))$/i;
const welcomeFiles = [
  /^readme(\.\w+)?$/i,
  /^package\.json$/i,
  /^(main|index|app)\.\w+$/i,
  /^(pyproject|cargo)\.toml$/i,
];

/** How well a path fits the words of a prompt; 0 if not at all. */
function fit(path: string, promptWords: string[]): number {
  const lower = path.toLowerCase();
  const name = lower.split('/').at(-1) ?? lower;
  const stem = name.replace(/\.\w+$/, '');
  const parts = new Set(lower.split(/[^\p{L}\p{N}]+/u));
  let score = 0;
  for (const word of promptWords) {
    if (word.includes('/') && lower.endsWith(word)) score += 100;
    else if (word === name) score += 80;
    else if (commonWords.has(word)) continue;
    else if (word === stem) score += 30;
    else if (parts.has(word)) score += 10;
  }
  return score;
}

function welcome(path: string): number {
  const parts = path.split('/');
  const rank = welcomeFiles.findIndex((pattern) => pattern.test(parts.at(-1) ?? ''));
  return (rank === -1 ? welcomeFiles.length : rank) + parts.length * 10;
}

/**
 * The files worth reading for a prompt, best first, at most `limit`: those it names or describes, then those in which
 * Grep found something; if there are none, README-like ones, else the first text files. Secrets and media only by name.
 */
export function chooseFiles(prompt: string, listed: string[], matched: string[], limit: number): string[] {
  const promptWords = words(prompt);
  const scores = [...new Set([...listed, ...matched])].map((path) => {
    const named = fit(path, promptWords);
    const open = !mediaFile.test(path) && !secretFile.test(path);
    return { path, open, score: open || named >= 80 ? named + (open && matched.includes(path) ? 20 : 0) : 0 };
  });
  const order = (a: { path: string }, b: { path: string }) =>
    welcome(a.path) - welcome(b.path) || (a.path < b.path ? -1 : 1);
  const fitting = scores.filter(({ score }) => score > 0).sort((a, b) => b.score - a.score || order(a, b));
  const chosen = fitting.length > 0 ? fitting : scores.filter(({ open }) => open).sort(order);
  const welcoming = chosen.filter(({ path }) => welcomeFiles.some((file) => file.test(path.split('/').at(-1) ?? '')));
  const wanted = fitting.length === 0 && welcoming.length > 0 ? welcoming : chosen;
  return wanted.slice(0, limit).map(({ path }) => path);
}
