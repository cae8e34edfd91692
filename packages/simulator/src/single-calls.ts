import type { MessagesRequest, Step } from './types.ts';
import { blocksOfStep } from './wire.ts';

/** True when the request allows at most one tool call per answer. */
export function wantsSingleCalls(request: MessagesRequest): boolean {
  return request.tool_choice?.disable_parallel_tool_use === true;
}

/** The answers a step is given in: one, or one for each tool call where the request wants those singly. */
export function answersOf(step: Step, request: MessagesRequest): [Step, ...Step[]] {
  if (!wantsSingleCalls(request) || step.parallel === true) return [step];
  const blocks = blocksOfStep(step);
  const ends = blocks.flatMap(({ type }, index) => (type === 'tool_use' ? [index + 1] : []));
  if (ends.length < 2) return [step];
  const { fault, stop_reason: stopReason, ...each } = step;
  const first = { ...each, blocks: blocks.slice(0, ends[0]), ...(fault && { fault }) };
  const others = ends.slice(1).map((end, index) => {
    const isLast = index === ends.length - 2;
    const own = blocks.slice(ends[index], isLast ? undefined : end);
    return { ...each, blocks: own, ...(isLast && stopReason !== undefined && { stop_reason: stopReason }) };
  });
  return [first, ...others];
}
