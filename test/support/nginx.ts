import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nginxArguments, nginxConfig } from '../../examples/cluster/nginx.ts';
import { freePort } from './ports.ts';

/** nginx with the configuration that we ship, before nodes on this machine. It goes when this process goes, however it ends. */
export interface Nginx {
  readonly url: string;
  /** Its access log. */
  log(): string;
  close(): Promise<void>;
}

/** Ends nginx and its workers when its standard input does, which ends with this process. */
const guard = 'exec 3<&0; "$@" 3<&- </dev/null & cat <&3 >/dev/null; kill -TERM $!; wait $!';

/** Starts nginx on a free port of loopback. */
export async function startNginx(nodes: readonly string[]): Promise<Nginx> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'sp-nginx-')));
  for (let tries = 1; ; tries += 1) {
    const port = await freePort();
    writeFileSync(join(directory, 'nginx.conf'), nginxConfig(nodes, port, directory));
    const child = spawn('/bin/sh', ['-c', guard, 'sh', 'nginx', ...nginxArguments(directory)], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const exited = once(child, 'exit');
    const close = async () => {
      child.stdin.end();
      await exited;
      rmSync(directory, { recursive: true });
    };
    if (await listens(join(directory, 'nginx.pid'), exited)) {
      return { url: `http://127.0.0.1:${port}`, log: () => readFileSync(join(directory, 'access.log'), 'utf8'), close };
    }
    // Somebody else took the port meanwhile.
    if (tries === 5) throw new Error(`nginx ended: ${said}`);
  }
}

/** True when it listens, of which nginx writes a file; false when it ends instead. */
async function listens(pidFile: string, exited: Promise<unknown>): Promise<boolean> {
  let over = false;
  void exited.then(() => (over = true));
  for (;;) {
    if (existsSync(pidFile)) return true;
    if (over) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
