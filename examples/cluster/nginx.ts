import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const shipped = readFileSync(new URL('../../deploy/nginx.conf', import.meta.url), 'utf8');

/** The shipped configuration, but for where it listens, which nodes it has (`host:port`), and where it writes. */
export function nginxConfig(nodes: readonly string[], port: number, directory: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  );
  const edits: [RegExp, string][] = [
    [/^( +server )127\.0\.0\.1:8000( max_fails=.*)\n.*:8001 .*$/gmu, nodes.map((node) => `$1${node}$2`).join('\n')],
    [/^ +listen 80;$/gmu, `        listen 127.0.0.1:${port};`],
    [/\/var\/log\/nginx\/sallyport\.log/gu, join(directory, 'access.log')],
    [/^http \{$/gmu, `http {\n    ${temporary.join('\n    ')}`],
    [/^worker_processes auto;$/gmu, 'worker_processes 2;'],
  ];
  return edits.reduce((text, [what, by]) => {
    if (!what.test(text)) throw new Error(`${String(what)} is not in deploy/nginx.conf`);
    return text.replace(what, by);
  }, shipped);
}

/** The arguments that make nginx use a configuration in a directory, in the foreground, as the account that starts it. */
export function nginxArguments(directory: string): string[] {
  const account = process.getuid?.() === 0 ? 'user root;' : '';
  const globals = `daemon off; pid ${join(directory, 'nginx.pid')}; error_log stderr; ${account}`;
  return ['-p', directory, '-c', join(directory, 'nginx.conf'), '-e', 'stderr', '-g', globals];
}
