import { blocksOf, readTurn } from './conversation.ts';
import type { ToolCall, Turn } from './conversation.ts';
import { answerText, findingsOf, inputText } from './demo-answer.ts';
import { chooseFiles, quotedIdentifiers, readListing, readMatches } from './demo-files.ts';
import { schemaValue } from './schema-value.ts';
import { wantsSingleCalls } from './single-calls.ts';
import type { MessagesRequest, Step } from './types.ts';

const maxReads = 3;
const maxSearches = 2;
const outputTool = 'StructuredOutput';
const usedTools = ['Glob', 'Grep', 'Read'];

interface Call {
  name: string;
  input: Record<string, string>;
}

/**
 * An honest small job: lists the workspace, searches for identifiers the prompt quotes, reads up to three files that
 * fit the prompt, and states only what the tools returned. Uses only offered tools, one per answer where parallel use
 * is disabled. Gives a structured output when one is asked for.
 */
export function demoBrain(request: MessagesRequest): Step {
  const offered = request.tool_choice?.type === 'none' ? [] : (request.tools ?? []);
  const names = offered.map((tool) => tool.name);
  const turn = readTurn(request);
  for (const phase of [lookCalls, readCalls]) {
    const open = phase(turn, names).filter((call) => !wasMade(turn, call));
    if (open.length > 0) return { tools: wantsSingleCalls(request) ? open.slice(0, 1) : open };
  }
  const looked = turn.toolCalls.filter((call) => usedTools.includes(call.name));
  const findings = findingsOf(looked, turn.prompt, workingDirectory(request));
  const own = names.filter((name) => name !== outputTool && name !== 'DeferredToolPlaceholder');
  const text = answerText(findings, own);
  const output = offered.find((tool) => tool.name === outputTool);
  if (!output) return { text };
  const refused = turn.toolCalls.find((call) => call.name === outputTool);
  if (refused) return { text: `${text}\n\n${refusal(refused)}` };
  return { structured: schemaValue(output.input_schema, { ...findings, text }) };
}

function refusal(call: ToolCall): string {
  return call.result?.isError === true
    ? `I could not make a value that fits the given schema: ${call.result.text}`
    : 'I have already given the structured output.';
}

function wasMade(turn: Turn, call: Call): boolean {
  return turn.toolCalls.some(
    (made) => made.name === call.name && JSON.stringify(made.input) === JSON.stringify(call.input),
  );
}

/** The calls that find out what there is. */
function lookCalls(turn: Turn, offered: string[]): Call[] {
  const calls: Call[] = [];
  if (offered.includes('Glob')) calls.push({ name: 'Glob', input: { pattern: '**/*' } });
  if (offered.includes('Grep')) {
    for (const pattern of quotedIdentifiers(turn.prompt).slice(0, maxSearches)) {
      calls.push({ name: 'Grep', input: { pattern } });
    }
  }
  return calls;
}

/** The calls that read what fits, judged by the results of the first ones. Without any listing two usual names are tried. */
function readCalls(turn: Turn, offered: string[]): Call[] {
  if (!offered.includes('Read')) return [];
  const listings = results(turn, 'Glob').map(readListing);
  const matched = results(turn, 'Grep').flatMap(readMatches);
  const listed = listings.flatMap((listing) => listing.paths);
  const blind = listings.length === 0 && matched.length === 0;
  const paths = blind ? ['README.md', 'package.json'] : chooseFiles(turn.prompt, listed, matched, maxReads);
  return paths.map((path) => ({ name: 'Read', input: { file_path: path } }));
}

/** The results of a tool's calls that worked. */
function results(turn: Turn, name: string): string[] {
  const calls = turn.toolCalls.filter((call) => call.name === name && inputText(call, 'pattern') !== '');
  return calls.flatMap(({ result }) => (result && !result.isError ? [result.text] : []));
}

/** The directory Claude Code says it works in, in a system message or the system prompt. */
function workingDirectory(request: MessagesRequest): string | null {
  const system = request.messages.filter((message) => message.role === 'system').flatMap(blocksOf);
  const prompt = blocksOf({ role: 'system', content: request.system ?? '' });
  const text = [...system, ...prompt].map((block) => block.text ?? '').join('\n');
  return /^ *- Primary working directory: (.+)$/m.exec(text)?.[1]?.trim() ?? null;
}
