import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { dirname, join } from 'node:path';
import { SallyportError } from '../engine/errors.ts';

/**
 * Path of the Claude Code binary that came with the Agent SDK for this platform. Throws `not_ready` when the package of
 * this platform is not installed.
 */
export function claudeExecutable(): string {
  const require = createRequire(fileURLToPath(import.meta.resolve('@anthropic-ai/claude-agent-sdk')));
  const platform = `${process.platform}-${process.arch}`;
  const file = process.platform === 'win32' ? 'claude.exe' : 'claude';
  for (const name of [platform, `${platform}-musl`]) {
    const found = locate(require, `@anthropic-ai/claude-agent-sdk-${name}/package.json`);
    const binary = found === null ? null : join(dirname(found), file);
    if (binary !== null && existsSync(binary)) return binary;
  }
  throw new SallyportError('not_ready', { cause: `no Claude Code binary for ${platform}` });
}

function locate(require: NodeJS.Require, specifier: string): string | null {
  try {
    return require.resolve(specifier);
  } catch {
    return null;
  }
}
