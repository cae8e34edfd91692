import type { ToolCall } from './conversation.ts';
import { readLines, readListing, readMatches, words } from './demo-files.ts';

/** What the tools of a turn returned, as facts an answer may state. */
export interface Findings {
  /** Null if Glob was not called or failed. */
  fileCount: number | null;
  /** Files that were read, with their lines. */
  read: { path: string; lines: string[] }[];
  /** Everything the answer says, one paragraph or list item each. */
  paragraphs: string[];
}

const maxQuote = 160;

function quote(line: string): string {
  const text = line.trim();
  return text.length > maxQuote ? `"${text.slice(0, maxQuote)}…"` : `"${text}"`;
}

/** A count with its noun. */
function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** The string in a field of a tool's input; empty if there is none. */
export function inputText(call: ToolCall, key: string): string {
  const { input } = call;
  if (typeof input !== 'object' || input === null) return '';
  const value: unknown = new Map(Object.entries(input)).get(key);
  return typeof value === 'string' ? value : '';
}

/** The first sentence of an error, without Claude Code's markup. */
function reason(text: string): string {
  const plain = text
    .replaceAll(/<\/?tool_use_error>/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
  const sentence = /^[\s\S]*?[.!](?=\s|$)/.exec(plain)?.[0] ?? plain;
  return sentence.length > 2 * maxQuote ? `${sentence.slice(0, 2 * maxQuote)}…` : sentence;
}

function describeRead(path: string, lines: string[], prompt: string): string {
  const first = lines.find((line) => line.trim() !== '');
  if (first === undefined) return `\`${path}\` is empty${lines.length > 0 ? ' but for blank lines' : ''}.`;
  const named = new Set(words(prompt));
  const fitting = lines.find(
    (line) => line !== first && words(line).some((word) => named.has(word) && word.length > 3),
  );
  const more = fitting === undefined ? '' : ` A line that shares words with your prompt: ${quote(fitting)}.`;
  return `\`${path}\` has ${counted(lines.length, 'line')} and begins with ${quote(first)}.${more}`;
}

function describe(call: ToolCall, prompt: string, short: (path: string) => string, findings: Findings): string {
  const { name, result } = call;
  const target = inputText(call, name === 'Read' ? 'file_path' : 'pattern');
  const what = `${name} of \`${short(target)}\``;
  if (!result) return `${what}: no result came back.`;
  if (result.isError) return `${what} did not work: ${reason(result.text)}`;
  if (name === 'Glob') {
    const { paths, total } = readListing(result.text);
    findings.fileCount = total;
    if (total === 0) return 'I listed the workspace: there is no file in it.';
    const shown = total > paths.length ? `, of which Glob showed ${paths.length}` : '';
    return `I listed the workspace: ${counted(total, 'file')}${shown}.`;
  }
  if (name === 'Grep') {
    const matches = readMatches(result.text).map((path) => `\`${short(path)}\``);
    const some = matches.slice(0, 5).join(', ') + (matches.length > 5 ? ', …' : '');
    return `I searched for \`${target}\`: ${matches.length === 0 ? 'no file contains it.' : `found in ${counted(matches.length, 'file')}: ${some}.`}`;
  }
  const lines = readLines(result.text);
  findings.read.push({ path: short(target), lines });
  return `I read a file: ${describeRead(short(target), lines, prompt)}`;
}

/** States what the calls of a turn returned, and nothing else. `directory` is cut off the front of absolute paths. */
export function findingsOf(calls: ToolCall[], prompt: string, directory: string | null): Findings {
  const findings: Findings = { fileCount: null, read: [], paragraphs: [] };
  const short = (path: string) =>
    directory !== null && path.startsWith(`${directory}/`) ? path.slice(directory.length + 1) : path;
  for (const call of calls) findings.paragraphs.push(describe(call, prompt, short, findings));
  return findings;
}

const introduction =
  "I am Sallyport's simulated model, not Claude: I can look at files and report what the tools return, but I do not understand them.";

/** The whole answer as text. */
export function answerText(findings: Findings, toolNames: string[]): string {
  const nothing =
    toolNames.length === 0
      ? 'No tools are offered in this conversation, so I have looked at nothing.'
      : `None of the tools I can use (Glob, Grep, Read) is offered in this conversation, only ${toolNames.join(', ')}, so I have looked at nothing.`;
  const body = findings.paragraphs.length === 0 ? [nothing] : findings.paragraphs.map((line) => `- ${line}`);
  return `${introduction}\n\n${body.join('\n')}\n\nWith an Anthropic API key, Claude itself answers here.`;
}
