import { createTwoFilesPatch } from 'diff';
import { relative } from 'node:path';
import { isEditTool } from '@sallyport/protocol';
import type { ToolCall, WorkspaceView } from './ports.ts';
import { pathsOf } from './workspaces.ts';

const maxDiffChars = 1_000_000;
const maxFiles = 500;
const maxWalk = 20_000;

/** What a run changed in its workspace. */
export interface Changes {
  /** Unified diff of the files that edit tools named, or null when they are as they were. */
  readonly diff: string | null;
  /** True when the diff leaves out something that changed. */
  readonly truncated: boolean;
  /** Relative paths that changed, those changed by commands included. */
  readonly paths: readonly string[];
}

/**
 * Watches what a run changes: keeps each file that an edit tool names as it was before, and the stamps of the
 * workspace from before the first command. Reads only through the view, so only what Claude itself could read.
 */
export class ChangeTracker {
  readonly #before = new Map<string, string | null>();
  #stamps: ReadonlyMap<string, string> | null = null;
  #ranCommands = false;
  #truncated = false;

  /** Called before an allowed tool runs. */
  async before(call: ToolCall, view: WorkspaceView): Promise<void> {
    if (call.name === 'Bash' && !this.#ranCommands) {
      this.#ranCommands = true;
      this.#stamps = await view.stamps(maxWalk);
      if (!this.#stamps) this.#truncated = true;
    }
    if (!isEditTool(call.name)) return;
    for (const path of pathsOf(call.name, call.input) ?? []) {
      if (this.#before.has(path)) continue;
      if (this.#before.size >= maxFiles) this.#truncated = true;
      else await this.#keep(path, view);
    }
  }

  async #keep(path: string, view: WorkspaceView): Promise<void> {
    try {
      this.#before.set(path, await view.readFile(path));
    } catch {
      this.#truncated = true; // The diff says that it is not whole; the tool itself is not affected.
    }
  }

  /** Called when Claude has ended. */
  async after(view: WorkspaceView): Promise<Changes> {
    const paths = new Set<string>();
    const patches: string[] = [];
    let size = 0;
    for (const [path, before] of this.#before) {
      const after = await view.readFile(path);
      if (after === before) continue;
      const name = relative(view.root, path);
      paths.add(name);
      const patch = createTwoFilesPatch(
        before === null ? '/dev/null' : `a/${name}`,
        after === null ? '/dev/null' : `b/${name}`,
        before ?? '',
        after ?? '',
      ).replace(/^=+\n/u, '');
      if ((size += patch.length) > maxDiffChars) this.#truncated = true;
      else patches.push(patch);
    }
    for (const path of await this.#changedByCommands(view)) paths.add(path);
    return {
      diff: patches.length > 0 ? patches.join('') : null,
      truncated: this.#truncated,
      paths: [...paths].toSorted(),
    };
  }

  async #changedByCommands(view: WorkspaceView): Promise<string[]> {
    const before = this.#stamps;
    if (!before) return [];
    const after = await view.stamps(maxWalk);
    if (!after) {
      this.#truncated = true;
      return [];
    }
    const changed = [...after].filter(([path, stamp]) => before.get(path) !== stamp).map(([path]) => path);
    const gone = [...before.keys()].filter((path) => !after.has(path));
    return [...changed, ...gone];
  }
}
