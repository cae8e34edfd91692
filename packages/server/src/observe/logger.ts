import pino, { type Logger } from 'pino';
import { loggedError } from './errors.ts';
import { prettyLine } from './pretty.ts';
import { createRedactor } from './redact.ts';

export type { Logger } from 'pino';

export interface LoggerOptions {
  readonly level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
  /** Values that are taken out of every line, wherever they stand in it. */
  readonly secrets?: readonly string[];
  /** Where whole lines go, JSON. Default: standard output, on a terminal as lines for humans. */
  readonly destination?: { write(line: string): void };
}

/**
 * A logger of JSON lines without secrets. It serves as the engine's `Log` and as Fastify's `loggerInstance`. A
 * standard output that cannot be written to any more stops nothing.
 */
export function createLogger({ level, secrets = [], destination }: LoggerOptions): Logger {
  const redact = createRedactor(secrets);
  const pretty = destination === undefined && process.stdout.isTTY;
  const format = (line: string): string => {
    try {
      const record = redact(JSON.parse(line)) as Record<string, unknown>;
      return `${pretty ? prettyLine(record) : JSON.stringify(record)}\n`;
    } catch {
      return '{"level":50,"msg":"a log line was left out, as its secrets could not be taken out"}\n';
    }
  };
  return pino(
    {
      level,
      serializers: { err: loggedError },
      formatters: { log: withErrors },
      // The one place that every line passes, those of child loggers too.
      hooks: { streamWrite: format },
    },
    destination ?? standardOutput(),
  );
}

/** Errors under any name, as JSON alone would show them empty. */
function withErrors(data: Record<string, unknown>): Record<string, unknown> {
  const errors = Object.entries(data).filter(([name, value]) => value instanceof Error && name !== 'err');
  return errors.length === 0
    ? data
    : { ...data, ...Object.fromEntries(errors.map(([name, error]) => [name, loggedError(error)])) };
}

function standardOutput() {
  // Lines that cannot be written wait up to this length and are then dropped.
  const stream = pino.destination({ dest: 1, sync: true, maxLength: 1_000_000 });
  // Without a listener a full disk would end the process.
  stream.on('error', () => {});
  return stream;
}
