import { createHash } from 'node:crypto';
import { questionTool, toolInputs } from '@sallyport/protocol';
import { SallyportError } from './errors.ts';

type Input = Readonly<Record<string, unknown>>;

const refuse = (field: string, msg: string, path: readonly (string | number)[] = []): SallyportError =>
  new SallyportError('validation_failed', { issues: [{ loc: ['body', field, ...path], msg, type: 'value_error' }] });

/** Checks what a human wants a tool to be called with. Throws `validation_failed` when the tool does not take that. */
export function checkedInput(tool: string, input: Input): Input {
  const schema = Object.hasOwn(toolInputs, tool) ? toolInputs[tool] : undefined;
  if (!schema) throw refuse('updated_input', `the input of ${tool} cannot be changed`);
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data as Input;
  const issues = parsed.error.issues.map(({ path, message, code }) => ({
    loc: ['body', 'updated_input', ...path.map((part) => (typeof part === 'symbol' ? String(part) : part))],
    msg: message,
    type: code,
  }));
  throw new SallyportError('validation_failed', { issues });
}

interface Question {
  readonly question: string;
}

/** The questions of a call of the question tool; none when its input is not understood. */
function questionsOf(input: Input): string[] {
  const { questions } = input;
  if (!Array.isArray(questions)) return [];
  return questions.flatMap((item: Question | null) => (typeof item?.question === 'string' ? [item.question] : []));
}

/**
 * The input with which the question tool hands the answers to Claude. Throws `validation_failed` unless every question
 * has one and nothing else is answered.
 */
export function answeredInput(input: Input, answers: Readonly<Record<string, string | string[]>>): Input {
  const questions = questionsOf(input);
  for (const question of Object.keys(answers)) {
    if (!questions.includes(question)) throw refuse('answers', 'there is no such question', [question]);
  }
  const missing = questions.find((question) => !Object.hasOwn(answers, question));
  if (missing !== undefined) throw refuse('answers', 'this question has no answer', [missing]);
  const given = Object.entries(answers).map(([question, answer]) => [question, [answer].flat().join(', ')]);
  return { ...input, answers: Object.fromEntries(given) };
}

/** Sorts the keys of every object, so that equal values have equal JSON. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  // A null prototype, so that a key named __proto__ is one like the others.
  return Object.assign(
    Object.create(null) as object,
    Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)])),
  );
}

/** SHA-256 of the canonical JSON of a value: the order of keys does not count. */
export function canonicalHash(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted(value)) ?? 'undefined')
    .digest('hex');
}

/**
 * The rule that a human gives with "for this conversation": an edit tool as such, exactly this command, this host of a
 * fetch. Null for calls that are asked every time.
 */
export function ruleOf(tool: string, input: Input): string | null {
  switch (tool) {
    case 'Edit':
    case 'Write':
    case 'NotebookEdit':
    case 'WebSearch':
      return `tool:${tool}`;
    case 'Bash':
      return `command:${canonicalHash(input['command'])}`;
    case 'WebFetch': {
      const { url } = input;
      return typeof url === 'string' && URL.canParse(url) ? `host:${new URL(url).host}` : null;
    }
    default:
      return null;
  }
}

export const isQuestion = (tool: string): boolean => tool === questionTool;
