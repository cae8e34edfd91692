import type { Usage } from '@sallyport/protocol';
import type { UpstreamFailure } from '../engine/ports.ts';
import { failureOfErrorEvent, upstreamError } from './failures.ts';
import { createSseScanner } from './sse.ts';

/** What a meter made of an answer. */
export interface Reading {
  /** Model as the upstream named it. */
  readonly model: string | null;
  readonly usage: Usage;
  /** How many of the written cache tokens are kept for an hour. */
  readonly hourWrites: number;
  /** Web searches that the upstream ran itself. */
  readonly webSearches: number;
  /** Null: the answer is a whole message. */
  readonly failure: UpstreamFailure | null;
}

/** Reads along with an answer. It never throws and never changes or delays a byte. */
export interface Meter {
  /** True as soon as the message is whole; what comes after it need not be pushed. */
  push(chunk: Buffer): boolean;
  /** Takes stock, whether the answer is whole or was cut. */
  end(): Reading;
}

const charsPerToken = 4;
/** More tokens than any call can have: a number above it is not believed. */
const maxTokens = 10_000_000;
/** How the event begins that each piece of an answer comes in. Parsed is what begins otherwise. */
const deltaStart = '{"type":"content_block_delta"';
/** What stands before the text of a delta. */
const saidStart = /"(?:text|thinking|partial_json)":\s*"/gu;
const maxAnswerBytes = 32 * 1024 * 1024;

const tokensOf = (chars: number): number => Math.ceil(chars / charsPerToken);

/** What to charge for a call that was sent and of whose answer nothing was seen. */
export function unansweredReading(requestBytes: number): Reading {
  return new Tally(requestBytes).read(0, null);
}

/** Nothing was used: the upstream refused the call. */
export const emptyReading: Reading = {
  model: null,
  usage: { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0 },
  hourWrites: 0,
  webSearches: 0,
  failure: null,
};

/**
 * Makes the meter of one answer. Where the upstream reports no usage, or one that cannot be true, the larger of the
 * report and an estimate at 4 characters per token is charged; `requestBytes` is the length of the request's body.
 */
export function createMeter(contentType: string | undefined, requestBytes: number): Meter {
  const tally = new Tally(requestBytes);
  return /^text\/event-stream\b/i.test(contentType ?? '') ? streamMeter(tally) : messageMeter(tally);
}

function streamMeter(tally: Tally): Meter {
  let bytes = 0;
  let chars = 0;
  let begun = false;
  let ended = false;
  let failure: UpstreamFailure | null = null;
  const scanner = createSseScanner((data) => {
    if (data.startsWith(deltaStart)) {
      chars += deltaLength(data);
      return;
    }
    const event = parseObject(data);
    if (event?.['type'] === 'message_start') {
      begun = true;
      const message = objectOf(event['message']);
      tally.name(message['model']);
      tally.report(message['usage'], false);
    } else if (event?.['type'] === 'content_block_delta') {
      chars += deltaLength(data);
    } else if (event?.['type'] === 'message_delta') {
      tally.report(event['usage'], true);
    } else if (event?.['type'] === 'message_stop') {
      ended = true;
    } else if (event?.['type'] === 'error') {
      failure = failureOfErrorEvent(objectOf(event['error']));
    }
  });
  return {
    push(chunk) {
      bytes += chunk.length;
      scanner.push(chunk);
      return ended;
    },
    end() {
      scanner.end();
      const cause = begun ? 'the stream ended without message_stop' : 'the stream is no message';
      return tally.read(begun ? chars : bytes, failure ?? (begun && ended ? null : upstreamError(cause)));
    },
  };
}

function messageMeter(tally: Tally): Meter {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return {
    push(chunk) {
      bytes += chunk.length;
      if (bytes <= maxAnswerBytes) chunks.push(chunk);
      return false;
    },
    end() {
      const message = bytes <= maxAnswerBytes ? parseObject(Buffer.concat(chunks).toString()) : null;
      const whole = message?.['type'] === 'message';
      if (whole) {
        tally.name(message['model']);
        tally.report(message['usage'], true);
      }
      return tally.read(bytes, whole ? null : upstreamError('the answer is no message'));
    },
  };
}

/** Collects the reported numbers of one answer. Later ones replace earlier ones. */
class Tally {
  readonly #requestBytes: number;
  #model: string | null = null;
  #input = new Count();
  #output = new Count();
  #cacheRead = new Count();
  #cacheWrite = new Count();
  #hourWrites = new Count();
  #webSearches = new Count();
  #finalOutput = false;

  constructor(requestBytes: number) {
    this.#requestBytes = requestBytes;
  }

  name(model: unknown): void {
    if (typeof model === 'string' && model.length <= 200) this.#model = model;
  }

  /** `final`: the number of output tokens is that of the whole answer, not of its beginning. */
  report(usage: unknown, final: boolean): void {
    const fields = objectOf(usage);
    this.#input.report(fields['input_tokens']);
    this.#output.report(fields['output_tokens']);
    this.#cacheRead.report(fields['cache_read_input_tokens']);
    this.#cacheWrite.report(fields['cache_creation_input_tokens']);
    this.#hourWrites.report(objectOf(fields['cache_creation'])['ephemeral_1h_input_tokens']);
    this.#webSearches.report(objectOf(fields['server_tool_use'])['web_search_requests']);
    if (final && fields['output_tokens'] !== undefined) this.#finalOutput = true;
  }

  read(outputChars: number, failure: UpstreamFailure | null): Reading {
    const cached = this.#cacheRead.value + this.#cacheWrite.value;
    const inputKnown =
      this.#input.known && !this.#cacheRead.wrong && !this.#cacheWrite.wrong && this.#input.value + cached > 0;
    const outputKnown = this.#output.known && this.#finalOutput && this.#output.value > 0;
    return {
      model: this.#model,
      usage: {
        input_tokens: inputKnown
          ? this.#input.value
          : Math.max(this.#input.value, tokensOf(this.#requestBytes) - cached),
        output_tokens: outputKnown ? this.#output.value : Math.max(this.#output.value, tokensOf(outputChars)),
        cache_read_tokens: this.#cacheRead.value,
        cache_write_tokens: this.#cacheWrite.value,
      },
      hourWrites: this.#hourWrites.value,
      webSearches: this.#webSearches.value,
      failure,
    };
  }
}

/** One reported number: the last one that can be true, and whether the last report was such a one. */
class Count {
  value = 0;
  known = false;
  wrong = false;

  report(value: unknown): void {
    if (value === undefined || value === null) return;
    const believable = Number.isInteger(value) && (value as number) >= 0 && (value as number) <= maxTokens;
    if (believable) this.value = value as number;
    this.known = believable;
    this.wrong = !believable;
  }
}

/**
 * How long the text of a delta is as it is escaped, which is never less than it says. It is only asked for where the
 * upstream reports no usage, so deltas, of which an answer has thousands, are not parsed.
 */
function deltaLength(data: string): number {
  saidStart.lastIndex = 0;
  return saidStart.test(data) ? Math.max(0, data.lastIndexOf('"') - saidStart.lastIndex) : 0;
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    return objectOf(JSON.parse(text));
  } catch {
    return null;
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
