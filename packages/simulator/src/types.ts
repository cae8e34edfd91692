/** The shapes the simulator reads, plays and offers. Only what it uses of the Messages API is typed. */

/** One content block as a client sent it; fields depend on `type`. */
export interface Block {
  type: string;
  text?: string;
  id?: string;
  name?: string;
  input?: unknown;
  tool_use_id?: string;
  content?: string | Block[];
  is_error?: boolean;
  [key: string]: unknown;
}

export interface Message {
  /** Claude Code also sends `system` messages inside `messages`. */
  role: 'user' | 'assistant' | 'system';
  content: string | Block[];
}

export interface Tool {
  name: string;
  input_schema?: unknown;
  [key: string]: unknown;
}

/** The body of `POST /v1/messages`, after the checks of `checkRequest`. */
export interface MessagesRequest {
  model: string;
  messages: Message[];
  max_tokens?: number;
  system?: string | Block[];
  tools?: Tool[];
  tool_choice?: { type: string; name?: string; disable_parallel_tool_use?: boolean };
  stream?: boolean;
  [key: string]: unknown;
}

/** A block of an answer. A missing `id` of a tool call is made up, unique. */
export type AnswerBlock =
  | { type: 'text'; text: string }
  | { type: 'thinking'; thinking: string; signature?: string }
  | { type: 'tool_use'; name: string; input: unknown; id?: string };

export interface Usage {
  input_tokens?: number;
  output_tokens?: number;
  cache_read_input_tokens?: number;
  cache_creation_input_tokens?: number;
}

/** HTTP statuses an upstream may be made to answer with. */
export type FaultStatus = 400 | 401 | 402 | 403 | 404 | 413 | 429 | 500 | 502 | 503 | 504 | 529;

/**
 * What goes wrong instead of a good answer. `after_chars` (default 0) counts characters of text, thinking and tool
 * input that are delivered first; for a non-streaming answer it counts characters of the body.
 */
export type Fault =
  /**
   * An error answer. `retry_after` in seconds. The messages 'prompt is too long' and 'credit balance' stand for
   * Anthropic's full sentences.
   */
  | { kind: 'status'; status: FaultStatus; retry_after?: number; message?: string; error_type?: string }
  /** No headers, ever. */
  | { kind: 'hang' }
  /** Headers and a part of the answer, then silence. */
  | { kind: 'stall'; after_chars?: number }
  /** The socket is destroyed in the middle of the answer. */
  | { kind: 'cut'; after_chars?: number }
  /** The whole answer, one byte per write. */
  | { kind: 'slow_bytes' }
  /** Status 200 and a body that is no answer. */
  | { kind: 'garbage' }
  /** An `error` event after status 200; for a non-streaming answer the matching error status. */
  | { kind: 'error_event'; after_chars?: number; error_type?: string; message?: string }
  /** The socket is destroyed before any byte of an answer. */
  | { kind: 'refuse' }
  /** All content, then a clean end without `message_delta` and `message_stop`. */
  | { kind: 'no_message_stop' }
  /** A good answer with unknown events and fields and senseless usage mixed in. */
  | { kind: 'unknown_events' };

/** One answer of the model. Without `blocks` the order is thinking, text, tools, structured. */
export interface Step {
  text?: string;
  thinking?: string;
  tools?: { name: string; input: unknown; id?: string }[];
  /** The exact blocks, in order, instead of text, thinking, tools and structured. */
  blocks?: AnswerBlock[];
  /** A value for which the tool StructuredOutput is called. */
  structured?: unknown;
  /** Tokens (4 characters) per second; default unlimited. */
  rate?: number;
  /** Characters per delta; default 4 with a rate, else 24. */
  chunk?: number;
  /** Milliseconds before the headers. */
  delay_ms?: number;
  /** Default `tool_use` if a tool is called, else `end_turn`. */
  stop_reason?: string;
  /** Replaces the computed numbers one by one. */
  usage?: Usage;
  fault?: Fault;
  /** How many attempts of this step get the fault; default all. */
  fault_times?: number;
  /** True: all tool calls come in one answer, also where the request disables parallel ones. */
  parallel?: boolean;
}

/**
 * Step k answers the k-th model call of a turn; past the last step the answer is "(end of script)". Where the request
 * disables parallel tool calls, a step with several of them takes as many model calls: each answer ends with its tool
 * call, what follows the last one comes with it. The fault then belongs to the first answer, a `stop_reason` to the
 * last, all else to each.
 */
export interface Script {
  steps: Step[];
}

export interface BrainContext {
  /** Model calls since the last user-authored message of this request, from 0. */
  call: number;
  /** How often this very step has been asked for, from 1. */
  attempt: number;
  /** The header `x-claude-code-session-id`. */
  session: string | null;
}

/**
 * Decides an answer. One that throws gives the client a 500. Where the request disables parallel tool calls, only the
 * first call of the answer goes out, unless the step is `parallel`.
 */
export type Brain = (request: MessagesRequest, context: BrainContext) => Step | Promise<Step>;
