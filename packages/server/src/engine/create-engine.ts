import type { QueryRequest } from '@sallyport/protocol';
import { takeUp } from './abandoned.ts';
import { ApprovalDesk } from './approval-desk.ts';
import { Answers, type StartedRun } from './cache.ts';
import { historyOf, infoOf, listOf, logOf, statusOf, visible, stillAllowed } from './conversations.ts';
import type { Engine, EngineParts, OwnEngine, RunningTurn } from './engine.ts';
import { SallyportError } from './errors.ts';
import { deleteWhole } from './deleting.ts';
import { Exclusive } from './exclusive.ts';
import { forking } from './forks.ts';
import { claimOf, earlierTurn } from './idempotency.ts';
import { newId } from './ids.ts';
import { inbox } from './inbox.ts';
import { LiveLogs } from './live.ts';
import { messagesOf } from './messages.ts';
import { checkOutputSchema } from './output-schema.ts';
import { decideProfile, modelsOf, rootsOf } from './policy.ts';
import { ClaimTakenError, type IdempotencyClaim, type Profile } from './ports.ts';
import type { Principal } from './principal.ts';
import { Relay, type RelayParts } from './relay.ts';
import { keyOf, RunningTurns, type Running } from './running.ts';
import { Interruptions } from './nodes-stops.ts';
import { warmAhead } from './warming.ts';
import { Sweeper } from './sweeper.ts';
import { acceptFirst, acceptNext, eventsOf, type AcceptedTurn, type FirstTurn } from './turns.ts';
import { Watching } from './watching.ts';
import { workspaceReads } from './workspace-reads.ts';
import { resolveProject } from './workspaces.ts';

const unpriced = new SallyportError('validation_failed', {
  issues: [
    {
      loc: ['body', 'max_budget_usd'],
      msg: 'cannot be kept: the price of the model is not known here',
      type: 'value_error',
    },
  ],
});

/** Becomes one of the nodes that serve, and goes on with the turns that nobody runs. */
export async function createEngine(parts: EngineParts): Promise<OwnEngine> {
  const engine = new LocalEngine(parts);
  try {
    await engine.start();
    return engine;
  } catch (error) {
    await parts.lease.close();
    throw error;
  }
}

class LocalEngine implements OwnEngine {
  readonly #parts: EngineParts;
  readonly #logs = new LiveLogs();
  readonly #desk: ApprovalDesk;
  readonly #running: RunningTurns;
  readonly #answers: Answers;
  readonly #sweeper: Sweeper;
  readonly #interruptions: Interruptions;
  readonly #relay: Relay;
  readonly #watching: Watching;
  /** A conversation is told something, forked and deleted one after the other. */
  readonly #exclusive = new Exclusive();

  readonly fork: Engine['fork'];
  readonly diff: Engine['diff'];
  readonly files: Engine['files'];
  readonly file: Engine['file'];
  readonly approvals: Engine['approvals'];
  readonly approval: Engine['approval'];
  readonly decide: Engine['decide'];

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#desk = new ApprovalDesk(parts.approvals, parts.clock, parts.logger);
    const runsHere: RelayParts['runsHere'] = (tenant, id) => this.#running.has(tenant, id);
    this.#relay = new Relay({ ...parts, logs: this.#logs, runsHere });
    this.#watching = new Watching(parts, this.#logs, this.#relay);
    this.#running = new RunningTurns(parts, this.#logs, this.#desk, (tenant, id) => this.#relay.began(tenant, id));
    this.#answers = new Answers(parts, this.#logs);
    this.#sweeper = new Sweeper(parts, this.#logs, this.#running);
    this.#interruptions = new Interruptions(parts, this.#running);
    this.fork = forking(parts, this.#exclusive);
    ({ diff: this.diff, files: this.files, file: this.file } = workspaceReads(parts));
    ({ approvals: this.approvals, approval: this.approval, decide: this.decide } = inbox(parts, this.#desk));
  }

  async start(): Promise<void> {
    const { stops, audit, clock, configuration, lease } = this.#parts;
    const begun = { tenant: 'default', actor: 'service', action: 'service.start', ref: null, subject: null };
    await audit.append([{ at: clock.now(), ...begun, details: { configuration } }]);
    stops.onChange(() => void this.#running.stopWhere((whose) => stops.holds(whose), { reason: 'stopped' }));
    await lease.start({
      drop: () => this.#running.drop(),
      takeUp: (turns) => takeUp(this.#parts, this.#running, turns),
    });
    this.#interruptions.start();
    if (lease.shared) this.#relay.start();
    this.#sweeper.start();
  }

  startQuery: Engine['startQuery'] = async (principal, request, { requestId, signal, idempotencyKey }) => {
    const claim = claimOf(this.#parts, principal, idempotencyKey, ['query', request]);
    return await this.#once(principal, claim, async () => {
      const profile = await this.#profileOf(principal, request, null);
      const start = () => this.#query(principal, request, { profile, requestId, claim });
      // What a claim promises is a turn of its own.
      if (claim !== null) return (await start()).turn;
      return await this.#answers.to({ principal, profile, request, requestId, signal }, start);
    });
  };

  checkQuery: OwnEngine['checkQuery'] = async (principal, request) => {
    await this.#profileOf(principal, request, null);
  };

  startJob: OwnEngine['startJob'] = async (principal, request, { requestId, id }) => {
    const profile = await this.#profileOf(principal, request, id);
    const chosen = { profile, kind: 'job' as const, id, requestId, claim: null };
    const { accepted, running } = await this.#first(principal, request, chosen);
    return this.#runningTurn(accepted, running);
  };

  stopTurn: OwnEngine['stopTurn'] = (tenant, id) => this.#interruptions.stop(tenant, id);

  startConversation: Engine['startConversation'] = async (principal, request, context) => {
    const { requestId, sessionId, idempotencyKey } = context;
    const claim = claimOf(this.#parts, principal, idempotencyKey, ['start', sessionId ?? null, request]);
    return await this.#once(principal, claim, async () => {
      const profile = await this.#profileOf(principal, request, sessionId ?? null);
      const chosen = { profile, kind: 'conversation' as const, id: sessionId ?? newId('conv'), requestId, claim };
      const { accepted, running } = await this.#first(principal, request, chosen);
      return this.#runningTurn(accepted, running);
    });
  };

  continueConversation: Engine['continueConversation'] = async (principal, id, message, context) => {
    const { requestId, idempotencyKey } = context;
    const claim = claimOf(this.#parts, principal, idempotencyKey, ['continue', id, message]);
    const start = () => this.#next(principal, id, message, { requestId, claim });
    return await this.#once(principal, claim, () => this.#exclusive.run(keyOf(principal.tenant, id), start));
  };

  conversation: Engine['conversation'] = (principal, id) => infoOf(this.#parts, principal, id);

  conversations: Engine['conversations'] = (principal, request) => listOf(this.#parts, principal, request);

  messages: Engine['messages'] = (principal, id) => historyOf(this.#parts, principal, id);

  events: Engine['events'] = async (principal, id, request) => {
    const found = await visible(this.#parts, principal, id);
    if (request.after.seq > found.lastSeq) throw new SallyportError('bad_cursor');
    // What has ended says nothing more.
    const follows = request.follow && statusOf(this.#parts, found) !== 'ended';
    if (follows && !this.#running.draining) warmAhead(this.#parts, principal, found);
    return this.#watching.feed(found, { ...request, follow: follows });
  };

  interrupt: Engine['interrupt'] = async (principal, id) => {
    const { tenant } = await visible(this.#parts, principal, id);
    return await this.#interruptions.stop(tenant, id);
  };

  deleteConversation: Engine['deleteConversation'] = async (principal, id) => {
    await this.#exclusive.run(keyOf(principal.tenant, id), async () => {
      await deleteWhole(this.#parts, principal, id, this.#interruptions);
      this.#answers.forget(principal.tenant, id);
      this.#logs.end(principal.tenant, id);
    });
  };

  models: Engine['models'] = (principal) => {
    const { models, default: usual } = modelsOf(principal, this.#parts.policy);
    if (usual === null) throw new SallyportError('model_not_allowed');
    return { models, default: usual };
  };

  drain: OwnEngine['drain'] = () => {
    this.#parts.lease.rest();
    return this.#running.drain();
  };

  close: Engine['close'] = async () => {
    this.#parts.lease.rest();
    await this.#sweeper.close();
    await this.#running.close();
    try {
      await this.#answers.close();
    } finally {
      this.#desk.close();
      this.#relay.close();
      this.#interruptions.close();
      await this.#parts.lease.close();
    }
  };

  /** Starts a turn, unless an earlier request under the same claim has started it. */
  async #once(
    principal: Principal,
    claim: IdempotencyClaim | null,
    start: () => Promise<RunningTurn>,
  ): Promise<RunningTurn> {
    const earlier = await earlierTurn(this.#parts, principal.tenant, claim);
    if (earlier) return earlier;
    try {
      return await start();
    } catch (error) {
      if (!(error instanceof ClaimTakenError)) throw error;
      const quicker = await earlierTurn(this.#parts, principal.tenant, claim);
      if (quicker) return quicker;
      throw new SallyportError('idempotency_in_progress', { retryAfter: 1, cause: error });
    }
  }

  async #profileOf(principal: Principal, request: QueryRequest, conversation: string | null): Promise<Profile> {
    this.#running.check();
    const { tenant, key } = principal;
    await this.#parts.stops.check({ tenant, key, conversation });
    if (request.output_schema) checkOutputSchema(request.output_schema);
    const { workspaceRoots, isProtected, policy } = this.#parts;
    const roots = rootsOf(principal, workspaceRoots);
    const path = request.project_path;
    const projectPath = path === undefined ? null : await resolveProject(path, roots, isProtected);
    const profile = decideProfile(principal, request, projectPath, policy);
    if (request.max_budget_usd !== undefined && !this.#parts.isPriced(profile.model)) throw unpriced;
    return profile;
  }

  async #first(principal: Principal, request: QueryRequest, chosen: FirstTurn) {
    const { prompt, files = [] } = request;
    const { requestId, id } = chosen;
    return await this.#exclusive.run(keyOf(principal.tenant, id), async () => {
      const accepted = await acceptFirst(this.#parts, principal, request, chosen);
      const launch = { requestId, prompt, files, resume: false, earlier: null };
      return { accepted, running: this.#running.launch(accepted, launch) };
    });
  }

  async #next(
    principal: Principal,
    id: string,
    message: string,
    { requestId, claim }: Pick<FirstTurn, 'requestId' | 'claim'>,
  ): Promise<RunningTurn> {
    const found = await visible(this.#parts, principal, id);
    this.#running.check();
    if (statusOf(this.#parts, found) === 'ended') throw new SallyportError('conversation_ended');
    await this.#parts.stops.check({ tenant: found.tenant, key: found.key, conversation: id });
    await stillAllowed(this.#parts, principal, found.profile);
    await this.#running.settle(keyOf(found.tenant, id));
    const accepted = await acceptNext(this.#parts, found, message, { requestId, claim });
    if (accepted === null) {
      const now = await visible(this.#parts, principal, id);
      throw now.status === 'ended'
        ? new SallyportError('conversation_ended')
        : new SallyportError('conversation_busy', { retryAfter: 1 });
    }
    const launch = { requestId, prompt: message, files: [], resume: true, earlier: null };
    return this.#runningTurn(accepted, this.#running.launch(accepted, launch));
  }

  async #query(
    principal: Principal,
    request: QueryRequest,
    chosen: Pick<FirstTurn, 'profile' | 'requestId' | 'claim'>,
  ): Promise<StartedRun> {
    const first = { ...chosen, kind: 'query' as const, id: newId('conv') };
    const { accepted, running } = await this.#first(principal, request, first);
    const stop = () => running.turn.stop({ reason: this.#running.draining ? 'shutdown' : 'client_left' });
    return { ref: accepted.ref, turn: this.#runningTurn(accepted, running), stop };
  }

  #runningTurn(accepted: AcceptedTurn, { ended, waiting }: Running): RunningTurn {
    const { tenant, conversation } = accepted.ref;
    return {
      conversation,
      replayed: false,
      ended,
      waiting,
      events: () => eventsOf(this.#parts, this.#logs, accepted),
      totalMessages: async () => {
        await ended;
        return messagesOf(await logOf(this.#parts, tenant, conversation)).length;
      },
    };
  }
}
