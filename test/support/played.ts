import { randomUUID } from 'node:crypto';
import type { Brain, RecordedRequest, Step } from '@sallyport/simulator';
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
 * otherwise. Give each tool call an id, to ask what came back for it. With steps, or with one brain for all, runs may
 * be played at the same time.
 */
export async function play(
  service: Pick<TestService, 'url' | 'simulator'>,
  script: readonly Step[] | Brain,
  request: Readonly<Record<string, unknown>> = {},
  { words = 'Go.', signal }: { readonly words?: string; readonly signal?: AbortSignal } = {},
): Promise<Played> {
  const mark = `${words} (${randomUUID()})`;
  if (typeof script === 'function') service.simulator.play(script);
  const prompt = typeof script === 'function' ? mark : scripted(script, mark);
  const response = await send(service, 'query', { max_turns: 10, timeout: 200, ...request, prompt }, signal);
  const body = (await response.json()) as Record<string, any>;
  const calls = callsWith(service, mark);
  return { status: response.status, body, calls, returned: (id) => returnedBy(calls, id) };
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
