import { setTimeout as delay } from 'node:timers/promises';
import { wordOf } from '../bench/words.ts';
import { Client, Crashed, Wrong } from './client.ts';
import { Dice } from './random.ts';
import { scenariosOf, type Scenario, type Scene } from './scenarios.ts';
import type { Service } from './service.ts';

/** What became of all that was done. */
export interface Tally {
  /** How often each scenario was played to its end. */
  readonly played: Record<string, number>;
  /** Turns that ended as their process was gone. */
  crashes: number;
  /** Requests that were refused as there was too much to do, and sent again. */
  refusals: number;
  /** Scenarios that were not begun, as too many were under way. */
  heldBack: number;
  readonly wrong: string[];
}

/** Most scenarios that are under way at once. */
const mostOpen = 24;
/** Longest that a scenario may go on when nothing new is begun; its turns have 300 s each. */
const longestEndMs = 400_000;
const shownWrong = 50;

/** Plays scenarios against a service, each with dice of its own, and keeps the tally. */
export class Load {
  readonly tally: Tally = { played: {}, crashes: 0, refusals: 0, heldBack: 0, wrong: [] };
  readonly #service: Service;
  readonly #seed: number;
  readonly #scenarios: Readonly<Record<string, Scenario>>;
  readonly #open = new Map<number, string>();
  readonly #ended = new Set<Promise<void>>();
  #number = 0;

  constructor(service: Service, seed: number) {
    this.#service = service;
    this.#seed = seed;
    this.#scenarios = scenariosOf(() => (this.tally.crashes += 1));
  }

  /** Right answers in a second of a closed loop of one-shot queries. */
  async capacity(concurrency: number, milliseconds: number): Promise<number> {
    const since = performance.now();
    let count = 0;
    const one = async () => {
      do {
        await this.#play('one-shot');
        count += 1;
      } while (performance.now() - since < milliseconds);
    };
    await Promise.all(Array.from({ length: concurrency }, one));
    return (count * 1000) / (performance.now() - since);
  }

  /** Every scenario once, one after the other. */
  async each(): Promise<void> {
    for (const name of Object.keys(this.#scenarios)) await this.#play(name);
  }

  /** Begins scenarios at random, so many queries' worth in a second, until the signal; then waits for their ends. */
  async mixed(perSecond: number, over: AbortSignal): Promise<void> {
    const dice = new Dice(this.#seed, `load ${this.#number}`);
    const names = Object.entries(this.#scenarios).flatMap(([name, { weight }]) => Array<string>(weight).fill(name));
    while (!over.aborted) {
      const name = dice.pick(names);
      const { cost } = this.#scenarios[name]!;
      await delay(dice.gapMs(perSecond / cost), undefined, { signal: over }).catch(() => {});
      if (over.aborted) break;
      if (this.#open.size >= mostOpen) this.tally.heldBack += 1;
      else void this.#play(name);
    }
    await this.#end();
  }

  async #end(): Promise<void> {
    const late = new AbortController();
    const limit = delay(longestEndMs, undefined, { signal: late.signal }).catch(() => {});
    await Promise.race([Promise.all(this.#ended), limit]);
    late.abort();
    for (const name of this.#open.values()) this.tally.wrong.push(`${name} has no end`);
  }

  #play(name: string): Promise<void> {
    this.#number += 1;
    const number = this.#number;
    this.#open.set(number, name);
    const playing = this.#try(name, number).finally(() => {
      this.#open.delete(number);
      this.#ended.delete(playing);
    });
    this.#ended.add(playing);
    return playing;
  }

  async #try(name: string, number: number): Promise<void> {
    const { tally } = this;
    const dice = new Dice(this.#seed, `scenario ${number}`);
    const client = new Client(this.#service.url, dice.pick(this.#service.keys));
    let words = 0;
    const scene: Scene = { client, dice, word: () => wordOf('soak', this.#seed, number, (words += 1)) };
    try {
      await this.#scenarios[name]!.play(scene);
      tally.played[name] = (tally.played[name] ?? 0) + 1;
    } catch (error) {
      if (error instanceof Crashed) tally.crashes += 1;
      else if (tally.wrong.length < shownWrong) tally.wrong.push(`${name} ${number}: ${reasonOf(error)}`);
    }
    tally.refusals += client.refusals;
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof Wrong) return error.message;
  const cause =
    error instanceof Error && error.cause !== undefined
      ? `: ${JSON.stringify(error.cause, ['code', 'message', 'name'])}`
      : '';
  return `${String(error)}${cause}`;
}
