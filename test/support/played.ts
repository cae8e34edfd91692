import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Brain, RecordedRequest, Step } from '@sallyport/simulator';
import { call } from './approvals.ts';
import { callsWith, scripted, send } from './runs.ts';
import type { TestService } from './service.ts';

/** A run whose model played a script. */
export interface Played {
  readonly status: number;
  readonly body: Record<string, any>;
  /** The run's model calls, as the upstream got them. */
  readonly calls: readonly RecordedRequest[];
  /** What came back to the model for a tool call. Throws when nothing did. */
  returned(toolUseId: string): { readonly text: string; readonly isError: boolean };
}

/**
 * Runs a query in which the model does what the steps or the brain say, with ten model calls unless the request says
 * otherwise, and a human who is asked allows nothing. Give each tool call an id, to ask what came back for it. With steps, or with one brain for all, runs may
 * be played at the same time.
 */
export async function play(
  service: Pick<TestService, 'url' | 'simulator'>,
  script: readonly Step[] | Brain,
  request: Readonly<Record<string, unknown>> = {},
  { words = 'Go.', signal }: { readonly words?: string; readonly signal?: AbortSignal } = {},
): Promise<Played> {
  const mark = `${words} (${randomUUID()})`;
  // All calls of a step in one answer, also where the upstream is told to make one at a time.
  const together =
    typeof script === 'function' ? togetherOf(script) : script.map((step) => ({ parallel: true, ...step }));
  if (typeof together === 'function') service.simulator.play(together);
  const prompt = typeof together === 'function' ? mark : scripted(together, mark);
  const over = new AbortController();
  const denying = denyAll(service, over.signal);
  const answer = async () => {
    const response = await send(service, 'query', { max_turns: 10, timeout: 200, ...request, prompt }, signal);
    return { response, body: (await response.json()) as Record<string, any> };
  };
  const { response, body } = await answer().finally(() => over.abort());
  await denying;
  const calls = callsWith(service, mark);
  return { status: response.status, body, calls, returned: (id) => returnedBy(calls, id) };
}

const togetherOf =
  (brain: Brain): Brain =>
  async (request, context) => ({ parallel: true, ...(await brain(request, context)) });

/** A human who allows nothing, until the signal is aborted. */
async function denyAll(service: { url: string }, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const { body } = await call(service, 'GET', 'approvals?status=pending').catch(() => ({ body: { items: [] } }));
    for (const { approval_id: id } of body['items'] ?? []) {
      await call(service, 'POST', `approvals/${id}`, { decision: 'deny' }).catch(() => undefined);
    }
    await delay(50, undefined, { signal }).catch(() => undefined);
  }
}

function returnedBy(calls: readonly RecordedRequest[], id: string): { text: string; isError: boolean } {
  const contents = (calls.at(-1)?.body?.messages ?? []).map(({ content }) => content);
  const blocks = contents.flatMap((content) => (typeof content === 'string' ? [] : content));
  const block = blocks.find(({ type, tool_use_id: of }) => type === 'tool_result' && of === id);
  if (!block) throw new Error(`nothing came back for ${id}`);
  const { content = '' } = block;
  const text = typeof content === 'string' ? content : content.map((part) => part.text ?? '').join('\n');
  return { text, isError: block.is_error === true };
}
