import type { UpstreamFailure } from '../engine/ports.ts';
import type { Credential } from './credential.ts';
import { concernsUpstream } from './failures.ts';
import type { Upstream } from './upstream.ts';

/** What one call has tried so far. */
export class Tries {
  count = 0;
  /** Further tries where the call was tried before, as there was nowhere else. */
  repeats = 0;
  /** Further tries with a key, or at an upstream, that the call had not tried. */
  moves = 0;
  /** Tries that got no answer in time. */
  timeouts = 0;
  /** What the call fails with if nothing more is tried. */
  failure: UpstreamFailure | null = null;
  readonly #tried = new Set<Credential>();
  readonly #refused = new Set<Credential>();
  readonly #failedAt = new Set<Upstream>();

  add(upstream: Upstream, credential: Credential, failure: UpstreamFailure): void {
    const { code } = failure;
    this.count += 1;
    this.#tried.add(credential);
    if (code === 'upstream_refused_credentials') this.#refused.add(credential);
    else if (concernsUpstream(code)) this.#failedAt.add(upstream);
    if (code === 'upstream_timeout') this.timeouts += 1;
    // That a second key is refused says less than what was said to the first one.
    if (this.failure === null || code !== 'upstream_refused_credentials') this.failure = failure;
  }

  /** True when the call has not been there, and nothing is known against it. */
  isFresh(upstream: Upstream, credential: Credential): boolean {
    return !credential.aside && !this.#tried.has(credential) && !this.#failedAt.has(upstream);
  }

  hasTried(credential: Credential): boolean {
    return this.#tried.has(credential);
  }

  wasRefused(credential: Credential): boolean {
    return this.#refused.has(credential);
  }
}
