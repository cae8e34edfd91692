/** Permission modes of a run, as clients name them. */
export const permissionModes = ['askForEdits', 'acceptEdits', 'readOnly', 'strict'] as const;
export type PermissionMode = (typeof permissionModes)[number];

/** Tools that only read inside the workspace. */
export const readTools = ['Read', 'Grep', 'Glob'] as const;
/** Tools that change files of the workspace. */
export const editTools = ['Edit', 'Write', 'NotebookEdit'] as const;
/** Tools that can reach beyond the workspace where nothing but permission holds them. */
export const openTools = ['Bash', 'WebFetch', 'WebSearch'] as const;

/** The tool through which Claude asks the human something. Only in a run that names it. */
export const questionTool = 'AskUserQuestion';

/** Every tool a run may be given, by Claude Code's own name. */
export const toolNames = [...readTools, ...editTools, ...openTools, questionTool] as const;
export type ToolName = (typeof toolNames)[number];

/** Names clients may send, each with the tool it means. `LS` is an older name for listing files. */
export const toolAliases: Readonly<Record<string, ToolName>> = {
  ...Object.fromEntries(toolNames.map((name) => [name, name])),
  LS: 'Glob',
};

/** The tools a run gets when the request names none. */
export function defaultTools(mode: PermissionMode): ToolName[] {
  return mode === 'askForEdits' || mode === 'acceptEdits'
    ? ['Read', 'Grep', 'Glob', 'Edit', 'Write']
    : ['Read', 'Grep', 'Glob'];
}

export const isReadTool = (name: string): boolean => (readTools as readonly string[]).includes(name);
export const isEditTool = (name: string): boolean => (editTools as readonly string[]).includes(name);
export const isOpenTool = (name: string): boolean => (openTools as readonly string[]).includes(name);
