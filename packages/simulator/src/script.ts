import { readTurn } from './conversation.ts';
import { answersOf } from './single-calls.ts';
import type { Brain, MessagesRequest, Script, Step } from './types.ts';

/** A script that cannot be played. The message is one line and names the place. */
export class ScriptError extends Error {
  override name = 'ScriptError';
}

type Check = (value: unknown, path: string) => void;

function check(test: (value: unknown) => boolean, wanted: string): Check {
  return (value, path) => {
    if (!test(value)) throw new ScriptError(`${path} must be ${wanted}`);
  };
}

const text = check((value) => typeof value === 'string', 'a string');
const boolean = check((value) => typeof value === 'boolean', 'true or false');
const anything: Check = () => {};
const positive = check((value) => typeof value === 'number' && Number.isFinite(value) && value > 0, 'a number above 0');
const count = check((value) => Number.isSafeInteger(value) && Number(value) >= 0, 'a whole number from 0');
const countFromOne = check((value) => Number.isSafeInteger(value) && Number(value) > 0, 'a whole number from 1');

/** An object with no other keys than those of `fields`; keys in `required` must be there. */
function object(fields: Record<string, Check>, required: string[] = []): Check {
  return (value, path) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new ScriptError(`${path} must be an object`);
    }
    for (const key of required) if (!(key in value)) throw new ScriptError(`${path}.${key} is missing`);
    for (const [key, field] of Object.entries(value)) {
      const checkField = Object.hasOwn(fields, key) ? fields[key] : undefined;
      if (!checkField) throw new ScriptError(`${path}.${key} is not known (known: ${Object.keys(fields).join(', ')})`);
      checkField(field, `${path}.${key}`);
    }
  };
}

function list(item: Check): Check {
  return (value, path) => {
    if (!Array.isArray(value)) throw new ScriptError(`${path} must be an array`);
    for (const [index, element] of value.entries()) item(element, `${path}[${index}]`);
  };
}

/** An object whose field `key` says which of the checks applies. */
function variant(key: string, variants: Record<string, Check>): Check {
  return (value, path) => {
    const found = typeof value === 'object' && value !== null ? new Map(Object.entries(value)).get(key) : undefined;
    const checkVariant = typeof found === 'string' && Object.hasOwn(variants, found) ? variants[found] : undefined;
    if (!checkVariant) throw new ScriptError(`${path}.${key} must be one of ${Object.keys(variants).join(', ')}`);
    checkVariant(value, path);
  };
}

const statuses = [400, 401, 402, 403, 404, 413, 429, 500, 502, 503, 504, 529];
const status = check((value) => statuses.some((known) => known === value), `one of ${statuses.join(', ')}`);
const plain = object({ kind: text });
const partial = object({ kind: text, after_chars: count });
const fault = variant('kind', {
  status: object({ kind: text, status, retry_after: count, message: text, error_type: text }, ['status']),
  hang: plain,
  stall: partial,
  cut: partial,
  slow_bytes: plain,
  garbage: plain,
  error_event: object({ kind: text, after_chars: count, error_type: text, message: text }),
  refuse: plain,
  no_message_stop: plain,
  unknown_events: plain,
});
const block = variant('type', {
  text: object({ type: text, text }, ['text']),
  thinking: object({ type: text, thinking: text, signature: text }, ['thinking']),
  tool_use: object({ type: text, name: text, input: anything, id: text }, ['name', 'input']),
});
const step = object({
  text,
  thinking: text,
  tools: list(object({ name: text, input: anything, id: text }, ['name', 'input'])),
  blocks: list(block),
  structured: anything,
  rate: positive,
  chunk: countFromOne,
  delay_ms: count,
  stop_reason: text,
  usage: object({
    input_tokens: count,
    output_tokens: count,
    cache_read_input_tokens: count,
    cache_creation_input_tokens: count,
  }),
  fault,
  fault_times: count,
  parallel: boolean,
});
const steps = list(step);

/** Checks a script, given as `{steps: [...]}` or as the array alone. @throws {ScriptError} naming the first mistake. */
export function parseScript(value: unknown): Script {
  const script: unknown = Array.isArray(value) ? { steps: value } : value;
  object({ steps }, ['steps'])(script, 'script');
  return script as Script;
}

/** @throws {ScriptError} if a script is given that cannot be played. */
export function toBrain(source: Script | Brain): Brain {
  if (typeof source === 'function') return source;
  const script = parseScript(source);
  return (request, { call }) => stepAt(script, request, call);
}

function stepAt(script: Script, request: MessagesRequest, call: number): Step {
  return script.steps.flatMap((each) => answersOf(each, request))[call] ?? { text: '(end of script)' };
}

const opening = '<<simulate';

/**
 * The step that the newest user text asks for with `<<simulate ... >>`; null without such a mark. Of several marks the
 * last counts. A script that cannot be played gives a text that says why, so that whoever typed it can read it.
 */
export function promptStep(request: MessagesRequest, call: number): Step | null {
  const { prompt } = readTurn(request);
  let found: Step | null = null;
  for (let at = prompt.indexOf(opening); at !== -1; at = prompt.indexOf(opening, at)) {
    const start = at + opening.length;
    const end = jsonEnd(prompt, start);
    try {
      if (!prompt.slice(end).trimStart().startsWith('>>')) throw new ScriptError('the closing >> is missing');
      found = stepAt(parseScript(JSON.parse(prompt.slice(start, end))), request, call);
    } catch (error) {
      found = { text: `(the simulate script cannot be played: ${error instanceof Error ? error.message : 'unknown'})` };
    }
    at = end;
  }
  return found;
}

/** Where the JSON object or array that begins after `start` ends. A script may hold further marks inside strings. */
function jsonEnd(source: string, start: number): number {
  let depth = 0;
  let inString = false;
  for (let at = start; at < source.length; at++) {
    const char = source[at];
    if (inString) {
      if (char === '\\') at++;
      else if (char === '"') inString = false;
    } else if (char === '"') inString = true;
    else if (char === '{' || char === '[') depth++;
    else if (char === '}' || char === ']') {
      depth--;
      if (depth <= 0) return at + 1;
    } else if (depth === 0 && source.startsWith('>>', at)) return at;
  }
  return source.length;
}
