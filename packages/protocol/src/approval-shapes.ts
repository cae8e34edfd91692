import { z } from 'zod';
import { isWellFormed, timestamp, wellFormed } from './shapes.ts';

export const approvalStatuses = ['pending', 'allowed', 'denied', 'expired', 'cancelled'] as const;
export type ApprovalStatus = (typeof approvalStatuses)[number];

/** A tool call that waits, or waited, for a human. */
export const approval = z
  .object({
    approval_id: z.string(),
    session_id: z.string(),
    turn_id: z.string(),
    kind: z.enum(['tool', 'question']).describe('`question`: Claude asks something, and `answers` answer it.'),
    tool: z.string(),
    tool_use_id: z.string(),
    input: z.record(z.string(), z.unknown()).describe('Exactly what the tool will be called with.'),
    diff: z.string().nullable().describe('Unified diff of what the call would change; null when it cannot be told.'),
    reason: z.string(),
    status: z.enum(approvalStatuses),
    created_at: timestamp,
    expires_at: timestamp.describe('Without a decision by then it is denied.'),
    decided_at: timestamp.nullable(),
    decided_by: z.string().nullable().describe('The key that decided, or `service`.'),
  })
  .meta({ id: 'Approval' });
export type ApprovalInfo = z.output<typeof approval>;

/** What the log keeps of an approval when it is requested. */
export type RequestedApproval = Pick<
  ApprovalInfo,
  'approval_id' | 'kind' | 'tool' | 'tool_use_id' | 'input' | 'diff' | 'reason' | 'created_at' | 'expires_at'
> & { readonly session_id: string; readonly turn_id: string };

const answer = z.union([z.string().max(10_000), z.array(z.string().max(10_000)).max(20)]);

/** A human's decision about an approval. */
export const approvalDecision = z
  .strictObject({
    decision: z.enum(['allow', 'deny']),
    message: z.string().max(2_000).refine(isWellFormed, wellFormed).nullish().describe('Told to Claude with a denial.'),
    remember: z
      .enum(['none', 'conversation'])
      .default('none')
      .describe('`conversation`: equal calls of the conversation are allowed from now on.'),
    updated_input: z
      .record(z.string(), z.unknown())
      .refine(isWellFormed, wellFormed)
      .nullish()
      .describe('With `allow`: the tool is called with this instead. It must be a valid input of the tool.'),
    answers: z
      .record(z.string().max(2_000), answer)
      .refine(isWellFormed, wellFormed)
      .nullish()
      .describe('With `allow` of a question: the answer to each question, by its text.'),
  })
  .meta({ id: 'ApprovalDecision' });
export type ApprovalDecisionRequest = z.output<typeof approvalDecision>;
