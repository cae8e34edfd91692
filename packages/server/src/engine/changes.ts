import { join } from 'node:path';
import { isEditTool } from '@sallyport/protocol';
import type { FileImage, ImageStore, Log, ToolCall, TurnRef, WorkspaceView } from './ports.ts';
import { fileDiff, pathInside } from './preview.ts';
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
  /** Files as they are now, as far as their contents are kept: those that edit tools of the conversation named. */
  readonly files: readonly { readonly path: string; readonly content: string | null }[];
}

/** Longest content of a file that is kept to tell what a conversation changed, in characters. */
const maxKeptChars = 1_000_000;

const isKept = (content: string | null): boolean => content === null || content.length <= maxKeptChars;

/**
 * Watches what a run changes: keeps each file that an edit tool names as it was before, and the stamps of the
 * workspace from before the first command. Reads only through the view, so only what Claude itself could read.
 */
export class ChangeTracker {
  readonly #before = new Map<string, string | null>();
  #stamps: ReadonlyMap<string, string> | null = null;
  /** Stamps from after the last command, once they are needed. */
  #stampsNow: ReadonlyMap<string, string> | null = null;
  #ranCommands = false;
  #truncated = false;

  /** To be told when an earlier process of the turn may have changed something that was not seen. */
  missedSome(): void {
    this.#truncated = true;
  }

  /** Called before an allowed tool runs. Gives the files it keeps, as they are now. */
  async before(call: ToolCall, view: WorkspaceView): Promise<Changes['files']> {
    const kept: { path: string; content: string | null }[] = [];
    if (call.name === 'Bash' && !this.#ranCommands) {
      this.#ranCommands = true;
      this.#stamps = await view.stamps(maxWalk);
      if (!this.#stamps) this.#truncated = true;
    }
    if (call.name === 'Bash') this.#stampsNow = null;
    if (!isEditTool(call.name)) return kept;
    for (const path of (pathsOf(call.name, call.input) ?? []).map((each) => pathInside(view, each))) {
      if (this.#before.has(path)) continue;
      if (this.#before.size >= maxFiles) this.#truncated = true;
      else await this.#keep(path, view);
      const content = this.#before.get(path);
      if (content !== undefined && isKept(content)) kept.push({ path, content });
    }
    return kept;
  }

  async #keep(path: string, view: WorkspaceView): Promise<void> {
    if (await this.#commandsChanged(path, view)) this.#truncated = true;
    try {
      this.#before.set(path, await view.readFile(join(view.root, path)));
    } catch {
      this.#truncated = true; // The diff says that it is not whole; the tool itself is not affected.
    }
  }

  /** True when a command of this run has changed a file, or may have, that nobody has seen before. */
  async #commandsChanged(path: string, view: WorkspaceView): Promise<boolean> {
    if (!this.#ranCommands) return false;
    this.#stampsNow ??= await view.stamps(maxWalk);
    return !this.#stampsNow || this.#stampsNow.get(path) !== this.#stamps?.get(path);
  }

  /**
   * Called when Claude has ended. `images` are the files that edit tools of the conversation named: those that commands
   * changed, and those that a cut turn may have changed, are looked at again.
   */
  async after(view: WorkspaceView, images: readonly Pick<FileImage, 'path' | 'settled'>[]): Promise<Changes> {
    const paths = new Set<string>();
    const patches: string[] = [];
    const files: { path: string; content: string | null }[] = [];
    let size = 0;
    for (const [path, before] of this.#before) {
      const after = await view.readFile(join(view.root, path));
      if (isKept(after)) files.push({ path, content: after });
      if (after === before) continue;
      paths.add(path);
      const patch = fileDiff(path, before, after);
      if ((size += patch.length) > maxDiffChars) this.#truncated = true;
      else patches.push(patch);
    }
    const byCommands = new Set(await this.#changedByCommands(view));
    for (const path of byCommands) paths.add(path);
    const named = new Set(files.map(({ path }) => path));
    for (const { path, settled } of images) {
      if (named.has(path) || (settled && !byCommands.has(path))) continue;
      const content = await view.readFile(join(view.root, path)).catch(() => undefined);
      if (content !== undefined && isKept(content)) files.push({ path, content });
    }
    return {
      diff: patches.length > 0 ? patches.join('') : null,
      truncated: this.#truncated,
      paths: [...paths].toSorted(),
      files,
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

/**
 * What a turn changed, to be told when Claude has ended. Files that changed, and whose text is not kept, are unsettled.
 * Never rejects: what cannot be read is truncated.
 */
export async function changesOf(
  tracker: ChangeTracker,
  view: WorkspaceView,
  ref: TurnRef,
  { images, logger }: { readonly images: ImageStore; readonly logger: Log },
): Promise<Changes> {
  try {
    const known = await images.pathsOf(ref.tenant, ref.conversation);
    const changes = await tracker.after(view, known);
    const changed = new Set(changes.paths);
    for (const { path } of changes.files) changed.delete(path);
    for (const { path } of known) if (changed.has(path)) await images.before(ref, path, null);
    return changes;
  } catch (error) {
    logger.warn({ turn: ref.turn, err: error }, 'changes could not be read');
    return { diff: null, truncated: true, paths: [], files: [] };
  }
}
