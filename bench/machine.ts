import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import server from '../packages/server/package.json' with { type: 'json' };

/** Where a run was made, as far as it matters for its figures. */
export interface Machine {
  readonly cores: number;
  readonly processor: string;
  readonly memoryGb: number;
  readonly node: string;
  readonly platform: string;
  readonly agentSdk: string;
}

export function thisMachine(): Machine {
  return {
    cores: availableParallelism(),
    processor: cpus()[0]?.model ?? 'unknown',
    memoryGb: Math.round(totalmem() / 1e9),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    agentSdk: server.dependencies['@anthropic-ai/claude-agent-sdk'],
  };
}

/** The commit that is measured, with a `+` when files differ from it; null where there is no git. */
export function thisCommit(): string | null {
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', join(import.meta.dirname, '..'), ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  try {
    return `${git('rev-parse', '--short=12', 'HEAD')}${git('status', '--porcelain') === '' ? '' : '+'}`;
  } catch {
    return null;
  }
}
