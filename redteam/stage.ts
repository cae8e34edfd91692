import { randomUUID } from 'node:crypto';
import type { Block, Brain, RecordedRequest, Simulator, Step } from '@sallyport/simulator';
import { call } from '../test/support/approvals.ts';
import { rows } from '../test/support/runs.ts';
import { userKey } from '../test/support/service.ts';

/** The body of an answer of the service. */
export type Body = Readonly<Record<string, unknown>>;

/** What Claude Code sent the model back for a tool call. */
export interface Returned {
  readonly text: string;
  readonly isError: boolean;
}

/** The hostile model of all conversations at once: each is found by the mark in its first prompt. */
export class Stage {
  readonly #simulator: Simulator;
  readonly #brains = new Map<string, Brain>();

  constructor(simulator: Simulator) {
    this.#simulator = simulator;
    simulator.play(async (request, context) => {
      const said = JSON.stringify(request.messages);
      const mark = [...this.#brains.keys()].find((each) => said.includes(each));
      const brain = mark === undefined ? undefined : this.#brains.get(mark);
      // All calls of a step in one answer, also where the request asks for one at a time.
      return { parallel: true, ...((await brain?.(request, context)) ?? { text: 'Done.' }) };
    });
  }

  /** What the model does in the next turns of a conversation. */
  script(mark: string, steps: readonly Step[] | Brain): void {
    // By count: what Claude Code makes of odd answers must not have one given again.
    const left = typeof steps === 'function' ? [] : [...steps];
    this.#brains.set(mark, typeof steps === 'function' ? steps : () => left.shift() ?? done);
  }

  /** Model calls of a conversation. */
  calls(mark: string): RecordedRequest[] {
    return this.#simulator.requests.filter(({ body }) => JSON.stringify(body?.messages ?? []).includes(mark));
  }

  /** All that came back for the tool calls of a conversation, by the call's id. */
  returned(mark: string): Map<string, Returned> {
    const found = new Map<string, Returned>();
    for (const { body } of this.calls(mark)) {
      const blocks = (body?.messages ?? []).flatMap(({ content }) => (typeof content === 'string' ? [] : content));
      for (const block of blocks)
        if (block.type === 'tool_result') found.set(block.tool_use_id ?? '', returnedBy(block));
    }
    return found;
  }
}

const done: Step = { text: 'Done.' };

function returnedBy({ content = '', is_error: isError }: Block): Returned {
  const text = typeof content === 'string' ? content : content.map((part) => part.text ?? '').join('\n');
  return { text, isError: isError === true };
}

/** A conversation with the hostile model. */
export class Conversation {
  readonly id = `redteam-${randomUUID()}`;
  readonly mark = `mark-${randomUUID()}`;
  readonly #world: { readonly service: { url: string; dataDir: string }; readonly stage: Stage };
  readonly #request: object;
  readonly #key: string;

  constructor(
    world: { readonly service: { url: string; dataDir: string }; readonly stage: Stage },
    request: object,
    key = userKey,
  ) {
    this.#world = world;
    this.#request = request;
    this.#key = key;
  }

  /** The first turn, to its end. */
  async start(steps: readonly Step[] | Brain, prompt = 'Please fix the failing test.'): Promise<Body> {
    const { service, stage } = this.#world;
    stage.script(this.mark, steps);
    const body = { max_turns: 1000, timeout: 200, ...this.#request, prompt: `${prompt} (${this.mark})` };
    return (await call(service, 'POST', `conversation/start?session_id=${this.id}`, body, this.#key)).body;
  }

  /** A next turn with exactly this message. */
  async next(steps: readonly Step[] | Brain, message: string): Promise<Body> {
    const { service, stage } = this.#world;
    stage.script(this.mark, steps);
    const body = { session_id: this.id, message };
    return (await call(service, 'POST', `conversation/${this.id}/continue`, body, this.#key)).body;
  }

  returned(): Map<string, Returned> {
    return this.#world.stage.returned(this.mark);
  }

  calls(): RecordedRequest[] {
    return this.#world.stage.calls(this.mark);
  }

  /** Ids of the calls that the audit log says were let run. */
  started(): Set<string> {
    const query = "select subject from audit where action = 'tool.start' and conversation = ?";
    return new Set(rows(this.#world.service, query, this.id).map(({ subject }) => String(subject)));
  }
}
