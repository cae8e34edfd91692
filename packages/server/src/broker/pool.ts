import type { Clock } from '../engine/clock.ts';
import type { Log, UpstreamFailure, UpstreamState } from '../engine/ports.ts';
import type { AttemptEnd, Place } from './attempt.ts';
import type { BreakerPolicy, Trial } from './breaker.ts';
import type { Credential } from './credential.ts';
import { concernsUpstream, refusal, withoutSecrets } from './failures.ts';
import { WaitingLine } from './places.ts';
import type { Tries } from './tries.ts';
import { Upstream, type UpstreamSettings } from './upstream.ts';

export interface PoolOptions {
  readonly upstreams: readonly UpstreamSettings[];
  readonly breaker: BreakerPolicy;
  readonly clock: Clock;
  readonly log: Log;
}

/** Who calls for what. */
export interface Caller {
  readonly tenant: string;
  readonly conversation: string;
  readonly model: string;
  /** Aborted when nobody waits for an answer any more. */
  readonly signal: AbortSignal;
}

/** Where a call may go next. */
export interface Choice {
  readonly upstream: Upstream;
  readonly credential: Credential;
  /** True when the call has not been there, and nothing is known against it. */
  readonly fresh: boolean;
}

/** A place that was taken at an upstream, with the key to use there. */
export interface TakenPlace extends Place, Choice {
  /** True when the call waited for it. */
  readonly waited: boolean;
  /** Gives the place back and learns from how the try ended; null: no try was made. Only the first call counts. */
  leave(end: AttemptEnd | null): void;
}

/** All upstreams and their keys. Each call goes to the first upstream of the list that can take it. */
export class Pool {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #policy: BreakerPolicy;
  readonly #line = new WaitingLine<TakenPlace | UpstreamFailure>();
  /** Every key there ever was: calls that began with one may still end. */
  readonly #secrets = new Set<string>();
  #upstreams: readonly Upstream[] = [];

  /** Opens no connection yet. Throws an error of one line when the settings cannot be used. */
  constructor({ upstreams, breaker, clock, log }: PoolOptions) {
    this.#clock = clock;
    this.#log = log;
    this.#policy = breaker;
    this.update(upstreams);
  }

  /**
   * Takes over new settings. What is the same, an address under its name or a key of it, keeps its state. Calls under way
   * end where they began. Throws and changes nothing when the settings cannot be used.
   */
  update(settings: readonly UpstreamSettings[]): void {
    if (settings.length === 0) throw new Error('there is no upstream');
    if (settings.some(({ keys }) => keys.includes(''))) throw new Error('a key of an upstream is empty');
    const former = this.#upstreams;
    const next = settings.map((one) => {
      const same = former.find(({ name, baseUrl }) => name === one.name && baseUrl === one.baseUrl);
      return same ?? new Upstream(one, this.#clock, this.#policy);
    });
    for (const [index, one] of settings.entries()) {
      next[index]?.update(one);
      for (const key of one.keys) this.#secrets.add(key);
    }
    this.#upstreams = next;
    for (const upstream of former) if (!next.includes(upstream)) upstream.retire();
    this.#line.serve();
  }

  states(): UpstreamState[] {
    return this.#upstreams.map((upstream) => upstream.state());
  }

  /** The failure without any key, should an upstream have named one. */
  clean(failure: UpstreamFailure): UpstreamFailure {
    return withoutSecrets(failure, this.#secrets);
  }

  /**
   * Where a call goes next: to the first upstream where it has not failed, with room if there is one, and a key that is not
   * put aside; else where it may be tried again, with the key that is allowed soonest. Null: nowhere at the moment.
   */
  choose(caller: Caller, tries: Tries): Choice | null {
    const all = this.#upstreams
      .filter(({ breaker }) => breaker.waitMs() === 0)
      .filter((upstream) => upstream.serves(caller.model))
      .flatMap((upstream) => upstream.credentials(caller.conversation).map((credential) => ({ upstream, credential })));
    const fresh = all.filter(({ upstream, credential }) => tries.isFresh(upstream, credential));
    const best = fresh.find(({ upstream }) => upstream.places.hasRoom(caller.tenant)) ?? fresh[0];
    if (best !== undefined) return { ...best, fresh: true };
    const [again] = all
      .filter(({ credential }) => !tries.wasRefused(credential))
      .sort((a, b) => a.credential.compare(b.credential));
    return again === undefined ? null : { ...again, fresh: false };
  }

  /**
   * Takes a place for a call's next try. Waits for one, tenants taking turns. Gives the failure where there is nowhere to
   * go, or no place in time; null when the caller has left.
   */
  async enter(caller: Caller, tries: Tries, waitMs: number): Promise<TakenPlace | UpstreamFailure | null> {
    const { tenant, signal } = caller;
    const now = this.#line.has(tenant) ? null : this.#tryEnter(caller, tries, false);
    if (now !== null) return now;
    const later = await this.#line.wait(tenant, () => this.#tryEnter(caller, tries, true), signal, waitMs);
    if (later !== null) return later;
    return signal.aborted ? null : refusal('upstream_overloaded', 'there was no place at an upstream in time');
  }

  /** Ends all connections. */
  close(): void {
    for (const { connections } of this.#upstreams) connections.close();
  }

  /** Null: there is no room yet. */
  #tryEnter(caller: Caller, tries: Tries, waited: boolean): TakenPlace | UpstreamFailure | null {
    const choice = this.choose(caller, tries);
    if (choice === null) return tries.failure ?? this.#nowhere(caller.model);
    const { upstream } = choice;
    if (!upstream.places.hasRoom(caller.tenant)) return null;
    const trial = upstream.breaker.begin();
    return trial && this.#place(choice, trial, upstream.enter(caller.tenant), waited);
  }

  #nowhere(model: string): UpstreamFailure {
    const serving = this.#upstreams.filter((upstream) => upstream.serves(model));
    if (serving.length === 0) return refusal('upstream_model_not_found', `no upstream serves ${model}`);
    const waitMs = Math.min(...serving.map(({ breaker }) => breaker.waitMs()));
    const cause = 'the upstreams failed so often that they are left alone';
    return { code: 'upstream_overloaded', retryAfter: Math.max(1, Math.ceil(waitMs / 1000)), cause };
  }

  #place(choice: Choice, trial: Trial, release: () => void, waited: boolean): TakenPlace {
    const { upstream, credential } = choice;
    const beganAt = this.#clock.monotonic();
    let left = false;
    return {
      ...choice,
      waited,
      connections: upstream.connections,
      secret: credential.secret,
      label: `${upstream.name}/${credential.name}`,
      begun: () => trial.begun(),
      leave: (end) => {
        if (left) return;
        left = true;
        this.#learn(choice, trial, end, beganAt);
        release();
        this.#line.serve();
      },
    };
  }

  #learn({ upstream, credential }: Choice, trial: Trial, end: AttemptEnd | null, beganAt: number): void {
    if (end === null || end.kind === 'gone') return trial.unknown();
    if (end.failure === null) {
      credential.good(beganAt);
      return trial.good();
    }
    const { code } = end.failure;
    const before = { state: upstream.breaker.state, aside: credential.aside };
    if (code === 'upstream_refused_credentials') credential.refused(code);
    else if (code === 'upstream_rate_limited') credential.limited(code, end.afterMs);
    else if (end.afterMs !== undefined && concernsUpstream(code)) upstream.limited(code, end.afterMs);
    if (code !== 'upstream_refused_credentials' && concernsUpstream(code)) trial.bad();
    else trial.good(); // It answers; that it does not like this call or this key is another matter.
    const { state } = upstream.breaker;
    if (credential.aside && !before.aside) {
      this.#log.warn({ upstream: `${upstream.name}/${credential.name}`, code }, 'key of an upstream is put aside');
    }
    if (state !== before.state)
      this.#log.warn({ upstream: upstream.name, state, code }, 'breaker of an upstream changed');
  }
}
