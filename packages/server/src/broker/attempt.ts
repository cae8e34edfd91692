import type { ClientRequest, IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { finished } from 'node:stream/promises';
import type { Clock } from '../engine/clock.ts';
import { newId } from '../engine/ids.ts';
import type { Log, ModelCall, UpstreamFailure } from '../engine/ports.ts';
import { AnswerBody } from './body.ts';
import { failureOfStatus, upstreamError, upstreamTimeout } from './failures.ts';
import type { Ledger } from './ledger.ts';
import { createMeter, emptyReading, unansweredReading, type Meter, type Reading } from './meter.ts';
import { costOf, type Prices } from './prices.ts';
import { headersDown, headersUp, type Route } from './request.ts';
import { isPassing, parseRetryAfter } from './retry.ts';
import { ConnectionError, send, type Connections } from './upstream.ts';

/** A call of a process that was admitted. */
export interface Call {
  readonly route: Route;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** True when the limit of calls counts it. */
  readonly main: boolean;
  readonly response: ServerResponse;
  readonly ledger: Ledger;
  /** Aborted when the process has left or its pass is revoked. */
  readonly signal: AbortSignal;
}

/** How long the upstream may take. */
export interface Timeouts {
  /** Milliseconds until the first byte of an answer's body. */
  readonly firstByteMs: number;
  /** Milliseconds without a byte while an answer runs. */
  readonly silenceMs: number;
}

/** Where a call is sent, and with what key. */
export interface Place {
  readonly connections: Connections;
  /** Null: no key is sent. */
  readonly secret: string | null;
  /** Upstream and key as logs name them, without the secret. */
  readonly label: string;
  /** Told when an answer has begun. */
  begun(): void;
}

export interface AttemptContext {
  readonly prices: Prices;
  readonly clock: Clock;
  readonly log: Log;
  readonly timeouts: Timeouts;
  /** Told how a call ended, before the process can see it. */
  readonly ended: (call: Call, failure: UpstreamFailure | null) => void;
}

export type AttemptEnd =
  /** The answer was passed on, and the process has seen its end; `failure` tells what was wrong with it. */
  | { readonly kind: 'passed'; readonly failure: UpstreamFailure | null; readonly afterMs?: undefined }
  /** The process has left; nobody waits for an answer. */
  | { readonly kind: 'gone' }
  /** Nothing was passed on. `repeat`: whether the same call may succeed when it is sent again. */
  | { readonly kind: 'failed'; readonly failure: UpstreamFailure; readonly repeat: Repeat; readonly afterMs?: number };

/** `once`: waiting a second time for an answer is worth it, a third time is not. */
export type Repeat = 'yes' | 'once' | 'no';

/** Bytes of an error answer that are read. */
const maxErrorBytes = 64 * 1024;

/** Sends a call once and passes the answer on as it comes. Rejects only when the request cannot be formed. */
export async function attemptCall(call: Call, place: Place, context: AttemptContext): Promise<AttemptEnd> {
  const first = await new Attempt(call, place, context).run(false);
  // A kept connection was closed by the other side just as it was used again: that is no failure of the upstream.
  return first === 'unused' ? ((await new Attempt(call, place, context).run(true)) as AttemptEnd) : first;
}

class Attempt {
  readonly #call: Call;
  readonly #place: Place;
  readonly #context: AttemptContext;
  readonly #at: number;
  readonly #started: number;
  readonly #body: AnswerBody;
  #request: ClientRequest | null = null;
  #timer: NodeJS.Timeout | undefined;
  #timedOut = false;
  /** True when the body was wholly sent before we gave up. */
  #sent = false;
  #booked: Reading | null = null;

  constructor(call: Call, place: Place, context: AttemptContext) {
    this.#call = call;
    this.#place = place;
    this.#context = context;
    this.#body = new AnswerBody(call.response);
    this.#at = context.clock.now();
    this.#started = context.clock.monotonic();
  }

  async run(fresh: boolean): Promise<AttemptEnd | 'unused'> {
    const { signal, headers, body, route } = this.#call;
    const { connections, secret } = this.#place;
    if (signal.aborted) return { kind: 'gone' };
    this.#request = connections.begin(route.target, headersUp(headers, secret, body.length), fresh);
    const left = () => this.#giveUp();
    signal.addEventListener('abort', left, { once: true });
    this.#wait(this.#context.timeouts.firstByteMs);
    try {
      const answer = await send(this.#request, body);
      // What happens to an answer nobody reads any more must not surface anywhere.
      answer.on('error', () => {});
      const status = answer.statusCode ?? 0;
      return status >= 200 && status < 300 ? await this.#pass(answer, status) : await this.#refused(answer, status);
    } catch (error) {
      return this.#unanswered(error);
    } finally {
      clearTimeout(this.#timer);
      signal.removeEventListener('abort', left);
    }
  }

  #wait(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timedOut = true;
      this.#giveUp();
    }, milliseconds);
  }

  #giveUp(): void {
    this.#sent ||= this.#request?.writableFinished ?? false;
    this.#request?.destroy();
  }

  /** There was no answer, not even its head. */
  #unanswered(error: unknown): AttemptEnd | 'unused' {
    if (!(error instanceof ConnectionError)) throw error;
    // Who gives up a call that was wholly sent may have to pay for it all the same.
    if (this.#sent) this.#book(0, unansweredReading(this.#call.body.length));
    if (this.#call.signal.aborted) return { kind: 'gone' };
    if (this.#timedOut) return { kind: 'failed', failure: upstreamTimeout('no answer in time'), repeat: 'once' };
    if (error.unused) return 'unused';
    return { kind: 'failed', failure: upstreamError(`connection failed: ${error.message}`), repeat: 'yes' };
  }

  /** The upstream answered with an error, of which the process sees nothing. */
  async #refused(answer: IncomingMessage, status: number): Promise<AttemptEnd> {
    const body = await this.#readError(answer);
    this.#book(status, emptyReading);
    if (this.#call.signal.aborted) return { kind: 'gone' };
    const afterMs = parseRetryAfter(answer.headers['retry-after'], this.#context.clock.now());
    const retryAfter = afterMs === undefined ? undefined : Math.ceil(afterMs / 1000);
    const failure = failureOfStatus(status, body, retryAfter);
    const repeat = isPassing(status) ? 'yes' : 'no';
    return { kind: 'failed', failure, repeat, ...(afterMs === undefined ? {} : { afterMs }) };
  }

  async #readError(answer: IncomingMessage): Promise<string> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > maxErrorBytes) break;
      }
    } catch {
      // The status alone says enough.
    }
    return Buffer.concat(chunks).toString();
  }

  async #pass(answer: IncomingMessage, status: number): Promise<AttemptEnd> {
    const call = this.#call;
    const meter = call.route.counting ? null : createMeter(answer.headers['content-type'], call.body.length);
    const broken = await this.#pump(answer, status, meter);
    if (meter !== null && this.#booked === null) this.#book(status, meter.end());
    const whole = this.#booked?.failure === null;
    // A process may leave as soon as it has the last event; the call was a good one then.
    if (call.signal.aborted && !whole) return { kind: 'gone' };
    if (broken !== null && !whole && !call.response.headersSent) {
      const repeat = broken.code === 'upstream_timeout' ? 'once' : this.#encoded(answer) ? 'no' : 'yes';
      return { kind: 'failed', failure: broken, repeat };
    }
    const failure = whole ? null : (broken ?? this.#booked?.failure ?? null);
    this.#context.ended(call, failure);
    if (broken === null || whole) call.response.end();
    else call.response.destroy();
    return { kind: 'passed', failure };
  }

  /** Passes the answer's bytes on, no faster than they are taken. Gives the failure that cut it, or null. */
  async #pump(answer: IncomingMessage, status: number, meter: Meter | null): Promise<UpstreamFailure | null> {
    const { response } = this.#call;
    if (this.#encoded(answer)) {
      this.#request?.destroy();
      return upstreamError('the answer is compressed although that was not asked for');
    }
    // Events, not an iterator: this is done for every piece of every answer. Those that were read together are one.
    let pieces: Buffer[] = [];
    const passOn = () => {
      const read = pieces;
      pieces = [];
      try {
        if (read.length > 0) this.#passOn(read.length === 1 ? read[0]! : Buffer.concat(read), answer, status, meter);
      } catch (error) {
        answer.destroy(error as Error);
      }
    };
    answer.on('data', (piece: Buffer) => {
      if (pieces.push(piece) === 1) process.nextTick(passOn);
    });
    try {
      await finished(answer);
    } catch (error) {
      if (this.#timedOut) return upstreamTimeout('the answer fell silent');
      return upstreamError(`the answer was cut: ${(error as NodeJS.ErrnoException).code ?? 'unknown'}`);
    }
    if (!response.headersSent) this.#begin(answer, status);
    return null;
  }

  #begin(answer: IncomingMessage, status: number): void {
    this.#place.begun();
    this.#body.begin(status, headersDown(answer.headers));
  }

  #passOn(chunk: Buffer, answer: IncomingMessage, status: number, meter: Meter | null): void {
    const { response } = this.#call;
    if (!response.headersSent) {
      this.#begin(answer, status);
      this.#wait(this.#context.timeouts.silenceMs);
    } else {
      this.#timer?.refresh();
    }
    const taken = this.#body.send(chunk);
    if (meter !== null && this.#booked === null && meter.push(chunk)) this.#book(status, meter.end());
    if (taken) return;
    // Who takes nothing is not silence of the upstream.
    answer.pause();
    clearTimeout(this.#timer);
    this.#body.onTaken(() => {
      if (answer.destroyed) return;
      this.#wait(this.#context.timeouts.silenceMs);
      answer.resume();
    });
  }

  #encoded(answer: IncomingMessage): boolean {
    return !['identity', ''].includes(answer.headers['content-encoding'] ?? '');
  }

  #book(status: number, reading: Reading): void {
    const { clock, prices, log, ended } = this.#context;
    const { ledger, route } = this.#call;
    this.#booked = reading;
    if (route.counting) return;
    const { ref, key, model: granted } = ledger.grant;
    // An upstream that names an unknown model is charged at the price of the one it was asked for.
    const price = prices.of(reading.model ?? granted) ?? prices.of(granted);
    const call: ModelCall = {
      id: newId('call'),
      ref,
      key,
      at: this.#at,
      model: reading.model ?? granted,
      usage: reading.usage,
      costUsd: price === null ? null : costOf(price, reading),
      status,
      durationMs: Math.round(clock.monotonic() - this.#started),
    };
    ledger.add(call);
    if (status >= 200 && status < 300 && reading.failure === null) {
      if (this.#call.main) ledger.answered();
      ended(this.#call, null);
    }
    const { tenant, conversation, turn } = ref;
    const { id, durationMs, usage } = call;
    const upstream = this.#place.label;
    log.info({ call: id, tenant, conversation, turn, upstream, status, durationMs, usage }, 'model call');
  }
}
