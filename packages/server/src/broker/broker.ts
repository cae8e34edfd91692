import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { chmod, lstat, unlink } from 'node:fs/promises';
import type { ErrorCode } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type {
  BrokerGrant,
  BrokerPass,
  BrokerTurn,
  ModelCall,
  UpstreamFailure,
  UpstreamState,
} from '../engine/ports.ts';
import type { Call } from './attempt.ts';
import { answerFinally, exchange, type ExchangeContext } from './exchange.ts';
import { concernsUpstream, notFoundBody, refusal } from './failures.ts';
import { Ledger } from './ledger.ts';
import { defaultBreaker, defaultRetry, defaultTimeouts, type BrokerOptions, type RunningBroker } from './options.ts';
import { Pending } from './pending.ts';
import { Pool } from './pool.ts';
import { answerWarming } from './warming.ts';
import { maxBodyBytes, prepareBody, readBody, routeOf, type Route } from './request.ts';
import { RetryBudget } from './retry.ts';
import { presentedToken, Tokens } from './tokens.ts';
import { Unbooked } from './unbooked.ts';
import type { UpstreamSettings } from './upstream.ts';

export type { BrokerOptions, RunningBroker } from './options.ts';

/** Paths of sockets are limited to 107 bytes by the system; the jail's own path may be longer than the host's. */
const maxSocketPathBytes = 99;
/** Calls that one process may have under way. */
const maxCallsAtOnce = 32;

/**
 * Starts the broker. A socket that a former broker left behind is replaced. Rejects with an error of one line when the
 * settings cannot be used or the socket cannot be made.
 */
export async function createBroker(options: BrokerOptions): Promise<RunningBroker> {
  const broker = new SocketBroker(options);
  await broker.listen();
  return broker;
}

/** A process: the turn it works on and the calls it has under way. */
interface Holder {
  ledger: Ledger | null;
  /** True: it works on nothing yet, and its calls are answered here. */
  warming: boolean;
  readonly calls: Set<AbortController>;
}

class SocketBroker implements RunningBroker {
  readonly socketPath: string;
  readonly #options: BrokerOptions;
  readonly #context: ExchangeContext;
  readonly #pool: Pool;
  readonly #server: Server;
  readonly #tokens = new Tokens<Holder>();
  readonly #work = new Pending();
  readonly #unbooked: Unbooked;
  #unhealthy: ErrorCode | null = null;

  constructor(options: BrokerOptions) {
    this.socketPath = options.socketPath;
    this.#options = options;
    const { upstreams, prices, clock, log, record } = options;
    this.#unbooked = new Unbooked({ record: async (call) => await record(call), log });
    const retry = { ...defaultRetry, ...options.retry };
    this.#pool = new Pool({ upstreams, breaker: { ...defaultBreaker, ...options.breaker }, clock, log });
    this.#context = {
      pool: this.#pool,
      retry,
      retryBudget: new RetryBudget(clock, retry),
      prices,
      clock,
      log,
      timeouts: { ...defaultTimeouts, ...options.timeouts },
      ended: (call, failure) => this.#ended(call, failure),
    };
    this.#server = createServer((request, response) => this.#work.add(this.#answer(request, response)));
    // Claude Code keeps its connections; closing one just as it is used again would cost it a call.
    this.#server.keepAliveTimeout = 0;
  }

  async listen(): Promise<void> {
    const path = this.socketPath;
    if (Buffer.byteLength(path) > maxSocketPathBytes) throw new Error(`socket path is too long: ${path}`);
    await removeStaleSocket(path);
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    this.#server.on('error', (error: NodeJS.ErrnoException) => {
      this.#options.log.error({ code: error.code }, 'the broker could not take a connection');
    });
    // Each jail has its own user, and all of them must get in; the token decides what they may do.
    await chmod(path, 0o666);
  }

  issue(): BrokerPass {
    const holder: Holder = { ledger: null, warming: false, calls: new Set() };
    const token = this.#tokens.issue(holder);
    return {
      token,
      bind: (grant) => this.#bind(holder, grant),
      answerItself: () => {
        holder.warming = true;
      },
      revoke: () => {
        this.#tokens.forget(token);
        stop(holder);
      },
    };
  }

  health(): { readonly ok: boolean; readonly code: ErrorCode | null } {
    const allOpen = this.#pool.states().every(({ state }) => state === 'open');
    const code = this.#unhealthy ?? (allOpen ? 'upstream_overloaded' : null);
    return { ok: code === null, code };
  }

  upstreams(): UpstreamState[] {
    return this.#pool.states();
  }

  setUpstreams(upstreams: readonly UpstreamSettings[]): void {
    this.#pool.update(upstreams);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const holder of this.#tokens.clear()) stop(holder);
    this.#server.closeAllConnections();
    await closed;
    await this.#work.none();
    await this.#unbooked.close();
    this.#pool.close();
  }

  /** A new turn takes the place of the former one, which gets no further call. */
  #bind(holder: Holder, grant: BrokerGrant): BrokerTurn {
    holder.warming = false;
    holder.ledger?.close();
    holder.ledger = new Ledger(grant, this.#options.prices, (call) => this.#store(call));
    return holder.ledger;
  }

  async #store(call: ModelCall): Promise<void> {
    try {
      const stored = this.#options.record(call);
      this.#work.add(stored.catch(() => {}));
      await stored;
    } catch (error) {
      // The turn fails, but what it spent is spent.
      this.#unbooked.add(call);
      throw error;
    }
  }

  #ended(call: Call, outcome: UpstreamFailure | null): void {
    const failure = outcome && this.#pool.clean(outcome);
    if (!call.route.counting) call.ledger.ended(failure);
    if (failure === null) this.#unhealthy = null;
    else if (concernsUpstream(failure.code)) this.#unhealthy = failure.code;
    if (failure === null) return;
    const { tenant, conversation, turn } = call.ledger.grant.ref;
    this.#options.log.warn({ tenant, conversation, turn, code: failure.code }, 'model call failed');
  }

  /** Answers one request. Never rejects. */
  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Writing to a process that is just leaving; 'close' follows.
    response.on('error', () => {});
    const route = routeOf(request);
    const holder = this.#tokens.find(presentedToken(request.headers));
    const ledger = holder?.ledger;
    try {
      if (route === null) {
        await readBody(request, 0);
        response.writeHead(404, { 'content-type': 'application/json' }).end(notFoundBody);
      } else if (holder?.warming === true && !route.counting) {
        await answerWarming(request, response);
      } else if (!holder || !ledger || ledger.closed || holder.calls.size >= maxCallsAtOnce) {
        await readBody(request, 0);
        this.#options.log.warn({ known: holder !== undefined }, 'model call without a turn refused');
        answerFinally(response);
      } else {
        await this.#pass(request, response, route, holder, ledger);
      }
    } catch {
      response.destroy(); // The process left before its request was read.
    }
  }

  /** Passes the call of a known process. Rejects when the process leaves before its request is read. */
  async #pass(
    request: IncomingMessage,
    response: ServerResponse,
    route: Route,
    holder: Holder,
    ledger: Ledger,
  ): Promise<void> {
    const controller = new AbortController();
    const { signal } = controller;
    holder.calls.add(controller);
    response.once('close', () => controller.abort());
    signal.addEventListener('abort', () => response.destroy(), { once: true });
    const call = { route, headers: request.headers, response, ledger, signal };
    try {
      const raw = await readBody(request, maxBodyBytes);
      if (raw === null) return this.#refuse(call, refusal('prompt_too_long', 'the body is over 40 MB'));
      const prepared = prepareBody(raw, ledger.grant, route.counting);
      if ('refused' in prepared) return this.#refuse(call, refusal('upstream_rejected', prepared.refused));
      const passing = this.#passAdmitted({ ...call, ...prepared });
      ledger.watch(passing);
      await passing;
    } finally {
      holder.calls.delete(controller);
    }
  }

  /** Passes a call once the turn's books allow it. Never rejects. */
  async #passAdmitted(call: Call): Promise<void> {
    let release = () => {};
    try {
      if (!call.route.counting) {
        const admission = await call.ledger.admit(call.signal, call.main);
        if ('refused' in admission) return this.#refuse(call, admission.refused);
        ({ release } = admission);
      }
      await exchange(call, this.#context, () => this.#mayTry(call));
    } catch (error) {
      if (call.signal.aborted) return;
      const { code } = SallyportError.from(error);
      this.#refuse(call, refusal(code, error instanceof Error ? error.message : 'unknown'));
    } finally {
      release();
    }
  }

  /** Asks the turn's books again; gives a final failure when they refuse. */
  async #mayTry(call: Call): Promise<boolean> {
    if (call.route.counting) return true;
    const verdict = await call.ledger.check(call.signal, call.main);
    if (typeof verdict === 'object') this.#refuse(call, verdict.refused);
    return typeof verdict !== 'object';
  }

  /** Gives a final failure for a reason of ours; null is a reason that the turn knows already. */
  #refuse(call: Omit<Call, 'body' | 'main'>, failure: UpstreamFailure | null): void {
    const { ledger, route, response } = call;
    const { tenant, conversation, turn } = ledger.grant.ref;
    const { code, cause } = failure ?? {
      code: null,
      cause: ledger.budgetReached() ? 'budget reached' : ledger.callsReached() ? 'calls reached' : 'turn is over',
    };
    this.#options.log.warn({ tenant, conversation, turn, code, cause }, 'model call refused');
    if (failure !== null && !route.counting) ledger.ended(failure);
    answerFinally(response);
  }
}

function stop(holder: Holder): void {
  holder.ledger?.close();
  for (const call of holder.calls) call.abort();
}

/** Removes the socket of a broker that ended without doing so. What is no socket is not ours to remove. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return;
  if (!found.isSocket()) throw new Error(`there is something else at the socket's path: ${path}`);
  await unlink(path);
}
