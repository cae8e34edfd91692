/** Every event for which Claude Code runs hooks of a repository's settings. */
export const hookEvents = (
  'PreToolUse PostToolUse PostToolUseFailure PostToolBatch PermissionRequest Notification UserPromptSubmit Stop ' +
  'SubagentStart SubagentStop PreCompact PostCompact SessionStart SessionEnd Setup InstructionsLoaded ConfigChange'
).split(' ');

/** Hooks of git that a commit runs. */
export const gitHooks =
  'pre-commit commit-msg post-commit prepare-commit-msg post-index-change reference-transaction'.split(' ');
