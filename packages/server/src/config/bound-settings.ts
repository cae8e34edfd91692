import { defaultBounds } from '@sallyport/protocol';
import { wholeNumber } from './kinds.ts';
import { setting } from './spec.ts';

/** A bound of requests: operators may raise it, as clients rely on the default. */
const bound = (variable: string, minimum: number, maximum: number, text: string) =>
  setting(wholeNumber(minimum, maximum), { variable, default: String(minimum), text });

/** The bounds of what a request may hold. */
export const boundSettings = {
  maxPromptChars: bound(
    'SALLYPORT_MAX_PROMPT_CHARS',
    defaultBounds.promptChars,
    10_000_000,
    'Longest `prompt`, in characters.',
  ),
  maxMessageChars: bound(
    'SALLYPORT_MAX_MESSAGE_CHARS',
    defaultBounds.messageChars,
    10_000_000,
    'Longest `message` of a conversation, in characters.',
  ),
  maxSystemPromptChars: bound(
    'SALLYPORT_MAX_SYSTEM_PROMPT_CHARS',
    defaultBounds.systemPromptChars,
    1_000_000,
    'Longest `system_prompt`, in characters.',
  ),
  maxTurns: bound('SALLYPORT_MAX_TURNS', defaultBounds.maxTurns, 1000, 'Largest `max_turns`, in model calls.'),
  maxTimeoutSeconds: bound(
    'SALLYPORT_MAX_TIMEOUT_SECONDS',
    defaultBounds.timeoutMaxSeconds,
    86_400,
    'Largest `timeout`, in seconds.',
  ),
  maxFiles: bound('SALLYPORT_MAX_FILES', defaultBounds.files, 10_000, 'Most entries of `files`.'),
  maxFilesBytes: bound(
    'SALLYPORT_MAX_FILES_BYTES',
    defaultBounds.filesBytes,
    40_000_000,
    'Largest content of all `files` of a request together, in bytes.',
  ),
};
