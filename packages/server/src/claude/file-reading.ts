import type { ChildProcess } from 'node:child_process';

const absent = 3;
/** Prints the first bytes of a file relative to the working directory or absolute; links are followed. */
const script = `[ -e "$1" ] || exit ${absent}; [ -f "$1" ] || exit 1; exec head -c "$2" -- "$1"`;

const milliseconds = 5_000;

/** The command that prints one byte more of a file than is wanted, if there is one. */
export function readCommand(path: string, maxBytes: number): readonly string[] {
  return ['/bin/sh', '-c', script, 'sh', path, String(maxBytes + 1)];
}

/**
 * Reads what `readCommand` prints. Null when there is no such file; rejects when it is larger, no text in UTF-8, cannot
 * be read, or is not there within 5 s.
 */
export function readText(child: ChildProcess, maxBytes: number): Promise<string | null> {
  const chunks: Buffer[] = [];
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), milliseconds);
    child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      if (code === absent) return resolve(null);
      const content = Buffer.concat(chunks);
      if (code !== 0) return reject(new Error(`a file could not be read: code ${code}`));
      if (content.length > maxBytes) return reject(new Error(`a file is larger than ${maxBytes} bytes`));
      try {
        resolve(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content));
      } catch {
        reject(new Error('a file is not text in UTF-8'));
      }
    });
  });
}
