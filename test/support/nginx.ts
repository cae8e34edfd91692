import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nginxArguments, nginxConfig } from '../../examples/cluster/nginx.ts';
import { startTied } from '../../examples/cluster/tied.ts';
import { freePort } from './ports.ts';

/** nginx with the configuration that we ship, before nodes on this machine. It goes when this process goes, however it ends. */
export interface Nginx {
  readonly url: string;
  /** Its access log. */
  log(): string;
  close(): Promise<void>;
}

/** Starts nginx on a free port of loopback. */
export async function startNginx(nodes: readonly string[]): Promise<Nginx> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'sp-nginx-')));
  for (let tries = 1; ; tries += 1) {
    const port = await freePort();
    writeFileSync(join(directory, 'nginx.conf'), nginxConfig(nodes, port, directory));
    const program = startTied(['nginx', ...nginxArguments(directory)], { signal: 'TERM' });
    try {
      // It writes this file when it listens.
      await program.until(() => existsSync(join(directory, 'nginx.pid')));
    } catch (error) {
      // Somebody else took the port meanwhile.
      if (tries < 5) continue;
      rmSync(directory, { recursive: true });
      throw error;
    }
    return {
      url: `http://127.0.0.1:${port}`,
      log: () => readFileSync(join(directory, 'access.log'), 'utf8'),
      async close() {
        await program.end();
        rmSync(directory, { recursive: true });
      },
    };
  }
}
