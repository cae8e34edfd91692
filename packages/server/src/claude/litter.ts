import { spawn } from 'node:child_process';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import type { User } from './slots.ts';

/**
 * What Claude Code's sandbox around Bash puts into a workspace as mount points, all of it empty (measured). It leaves
 * some of them for good, and all of them when it is killed; `.git/config.lock` would then keep git from working. What is
 * inside something else comes first.
 */
const mountPoints: readonly string[] = [
  '.claude/.cc-writes',
  '.claude/agents',
  '.claude/commands',
  '.claude/hooks',
  '.claude/launch.json',
  '.claude/loop.md',
  '.claude/output-styles',
  '.claude/routines',
  '.claude/scheduled_tasks.json',
  '.claude/settings.json',
  '.claude/settings.local.json',
  '.claude/skills',
  '.claude/workflows',
  '.claude',
  '.git/config.lock',
  '.git/config.worktree',
  '.git/glab-cli',
  '.git/info/.claude-sandbox-noreplace',
  '.git/objects/info/.claude-sandbox-noreplace',
  '.git/objects/info/alternates',
  '.git/objects/info/commit-graphs/.claude-sandbox-noreplace',
  '.git/objects/info/commit-graphs',
  '.git/remotes',
  '.git/worktrees',
  '.bash_profile',
  '.bashrc',
  '.gitconfig',
  '.gitmodules',
  '.idea',
  '.mcp.json',
  '.profile',
  '.ripgreprc',
  '.vscode',
  '.zprofile',
  '.zshrc',
];

/** What must be deleted of a workspace again, if it is empty. */
export interface Litter {
  readonly workspace: string;
  /** Whose processes made it; null: our own. */
  readonly user: User | null;
  readonly names: readonly string[];
}

/** Notes which mount points a workspace does not have before a process starts there: only those may be deleted after it. */
export function expectLitter(workspace: string, user: User | null): Litter {
  const missing = mountPoints.filter((name) => {
    try {
      return lstatSync(join(workspace, name), { throwIfNoEntry: false }) === undefined;
    } catch {
      return false; // Not to be told apart from what is there.
    }
  });
  return { workspace, user, names: missing };
}

/** Not through links, and nothing that holds something. */
const script = `
for name do
  case $name in */*) [ ! -L "\${name%%/*}" ] || continue ;; esac
  if [ -L "$name" ]; then continue; fi
  if [ -d "$name" ]; then rmdir "$name" 2>/dev/null
  elif [ -f "$name" ] && [ ! -s "$name" ]; then rm -f "$name"
  fi
done`;

/**
 * Deletes what is left of the mount points, as the user whose processes made them. No process may live in the workspace.
 * Never rejects: a workspace that is gone has no litter.
 */
export function sweepLitter({ workspace, user, names }: Litter): Promise<void> {
  if (names.length === 0) return Promise.resolve();
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  return new Promise((resolve) => {
    // The child enters the workspace before it becomes the user, who may not pass its parents.
    const child = spawn('/bin/sh', ['-c', script, 'sh', ...names], { cwd: workspace, env, stdio: 'ignore', ...user });
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
}

/** The litter of the workspaces in use. Processes that share one share what was noted before the first of them. */
export class LitterBook {
  readonly #books = new Map<string, { readonly litter: Litter; users: number }>();

  /** To be called before a process starts in the workspace. */
  enter(workspace: string, user: User | null): Litter {
    const book = this.#books.get(workspace) ?? { litter: expectLitter(workspace, user), users: 0 };
    book.users += 1;
    this.#books.set(workspace, book);
    return book.litter;
  }

  /** To be called when none of its processes is left: the last one out sweeps. */
  async leave(workspace: string): Promise<void> {
    const book = this.#books.get(workspace);
    if (!book || (book.users -= 1) > 0) return;
    this.#books.delete(workspace);
    await sweepLitter(book.litter);
  }
}
