import { z } from 'zod';

const text = z.string();
const name = z.string().min(1).max(4096);

/**
 * What a human may put in place of a tool's input: what the tool takes, as Claude Code declares it, and nothing that
 * would loosen the jail.
 */
export const toolInputs: Readonly<Record<string, z.ZodType>> = {
  Edit: z.strictObject({ file_path: name, old_string: text, new_string: text, replace_all: z.boolean().optional() }),
  Write: z.strictObject({ file_path: name, content: text }),
  NotebookEdit: z.strictObject({
    notebook_path: name,
    new_source: text,
    cell_id: text.optional(),
    cell_type: z.enum(['code', 'markdown']).optional(),
    edit_mode: z.enum(['replace', 'insert', 'delete']).optional(),
  }),
  Bash: z.strictObject({
    command: z.string().min(1),
    description: text.optional(),
    timeout: z.number().positive().max(600_000).optional(),
  }),
  WebFetch: z.strictObject({ url: z.url(), prompt: text }),
  WebSearch: z.strictObject({
    query: z.string().min(2),
    allowed_domains: z.array(text).optional(),
    blocked_domains: z.array(text).optional(),
  }),
};
