import { isoTime } from '../engine/clock.ts';

const levels: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};

const unshown = new Set(['level', 'time', 'pid', 'hostname', 'msg']);

/** One line for humans: time of day (UTC), level, message, and the other fields as `name=value`. */
export function prettyLine(record: Readonly<Record<string, unknown>>): string {
  const time = isoTime(Number(record['time'])).slice(11, 19);
  const level = (levels[Number(record['level'])] ?? 'LOG').padEnd(5);
  const fields = Object.entries(record)
    .filter(([name]) => !unshown.has(name))
    .map(([name, value]) => `${name}=${shown(value)}`);
  return printable([time, level, plain(record['msg']), ...fields].join(' '));
}

const plain = (value: unknown): string => (typeof value === 'string' ? value : (JSON.stringify(value) ?? ''));

function shown(value: unknown): string {
  const error = errorLine(value);
  if (error !== null) return JSON.stringify(error);
  return typeof value === 'string' && /^[\w.:/@+-]+$/.test(value) ? value : (JSON.stringify(value) ?? '');
}

/** An error with its causes, without stacks: those are in the JSON lines. */
function errorLine(value: unknown): string | null {
  if (typeof value !== 'object' || value === null || !('stack' in value) || !('message' in value)) return null;
  const cause = 'cause' in value ? (errorLine(value.cause) ?? plain(value.cause)) : '';
  return `${plain(value.message)}${cause === '' ? '' : ` (because: ${cause})`}`;
}

/** Control characters could move the cursor of the terminal, or begin a line of their own. */
const printable = (line: string): string =>
  line.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
  );
