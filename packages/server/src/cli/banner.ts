import { databaseOf } from '../compose-database.ts';
import type { Sallyport } from '../compose.ts';
import type { Settings } from '../config/settings.ts';

const quoted = (text: string) => (/^[\w./:@%+=-]+$/u.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The variable that a configured key came in. */
function keyVariable({ masterKey, userKeys }: Settings): string {
  return masterKey === null ? (userKeys[0]?.name ?? '').replace('key-', 'CLAUDE_API_KEY_') : 'CLAUDE_API_MASTER_KEY';
}

function keyLine({ adminKey, settings }: Sallyport): string {
  if (!adminKey) return `the one in ${keyVariable(settings)}`;
  return adminKey.fresh ? `${adminKey.secret} (shown this once, kept in ${adminKey.path})` : `in ${adminKey.path}`;
}

function curlLine(service: Sallyport): string {
  const [root] = service.settings.workspaceRoots;
  const key = service.adminKey ? `$(cat ${quoted(service.adminKey.path)})` : `$${keyVariable(service.settings)}`;
  const body = JSON.stringify({
    prompt: 'What is in this project?',
    permission_mode: 'readOnly',
    ...(root !== undefined && { project_path: root }),
  });
  return `curl -s ${service.url}/api/claude/query -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' -d ${quoted(body)}`;
}

/** What a start says: remarks where there is something to know, then the address, the key and a command that works. */
export function banner(service: Sallyport): string {
  const lines: string[] = [];
  if (service.settings.upstream === 'simulator') {
    lines.push("No ANTHROPIC_API_KEY: a simulated model answers. Claude Code is real, the answers are not Claude's.");
  }
  if (!service.jailed) {
    lines.push('Claude Code runs WITHOUT A JAIL here:', ...service.problems.map((problem) => `  - ${problem}`));
  }
  if (service.settings.databaseUrl !== null) lines.push(`Database: ${databaseOf(service.settings)}`);
  lines.push(`Address: ${service.url}`, `Key: ${keyLine(service)}`, `Try: ${curlLine(service)}`);
  return `${lines.join('\n')}\n`;
}
