import type { Log } from '../engine/ports.ts';
import { SettingsError } from './given.ts';
import type { UpstreamEntry } from './upstreams.ts';

export interface UpstreamWatchOptions {
  /** Reads the upstreams again. */
  readonly reread: () => readonly UpstreamEntry[];
  /** Those in force. */
  readonly current: readonly UpstreamEntry[];
  /** Puts others in force. When it throws, those before stay. */
  readonly apply: (upstreams: readonly UpstreamEntry[]) => void;
  readonly log: Log;
}

/** Milliseconds between two looks at the files. */
const everyMs = 5000;

/**
 * Reads the files of the upstreams again and again, and puts in force what has changed. What cannot be used is logged
 * once, without its content, and those before stay. `look` does it at once. Nothing is read after `close`.
 */
export function watchUpstreams({ reread, current, apply, log }: UpstreamWatchOptions): { look(): void; close(): void } {
  let known = JSON.stringify(current);
  let problem: string | null = null;
  const look = () => {
    try {
      const next = reread();
      const text = JSON.stringify(next);
      if (text !== known) {
        apply(next);
        log.info({ upstreams: next.map(({ name, keys }) => `${name}: ${keys.length}`) }, 'upstreams have changed');
      } else if (problem !== null) log.info({}, 'the upstreams can be read again');
      known = text;
      problem = null;
    } catch (error) {
      const told = error instanceof SettingsError ? error.message : 'they cannot be used';
      if (told !== problem) log.error({ problem: told }, 'upstreams cannot be read again; those before stay');
      problem = told;
    }
  };
  const timer = setInterval(look, everyMs).unref();
  return { look, close: () => clearInterval(timer) };
}
