import { createHash } from 'node:crypto';
import { Dice } from '../../soak/random.ts';
import { promptFor } from './brain.ts';
import { Caller } from './caller.ts';
import type { History } from './history.ts';
import { playScenario, scenarios, type ScenarioName, type Scene } from './scenarios.ts';
import { tenants, type World } from './world.ts';

/** What a load knows of what it did. */
export interface Done {
  talks: { tenant: string; conversation: string }[];
  /** Words of turns in which a human decides about each command. */
  gated: string[];
  /** Words of the last turns, which had to end well. */
  finals: string[];
}

/** How much of it there is. */
export interface LoadSize {
  seed: number;
  /** Of each tenant; of its conversations one more has to go on in the end. */
  clients: number;
  /** What a turn is given, in seconds. */
  timeout: number;
}

/** A mixed load of clients of several tenants, each with dice of its own. */
export class Load {
  readonly done: Done = { talks: [], gated: [], finals: [] };
  readonly #world: World;
  readonly #history: History;
  readonly #size: LoadSize;
  #isOver = false;
  #projects = 0;

  constructor(world: World, history: History, size: LoadSize) {
    this.#world = world;
    this.#history = history;
    this.#size = size;
  }

  /** Plays some scenarios for each tenant, so that their like has happened before anything is measured. */
  async warmUp(): Promise<void> {
    const names = (['cancelled', 'query', 'conversation'] as const).slice(0, this.#size.clients + 1);
    const scenes = tenants.flatMap((tenant) =>
      names.map((name) => [name, this.scene(tenant, `warm ${name}`)] as const),
    );
    await Promise.all(scenes.map(([name, scene]) => playScenario(name, scene)));
  }

  /** Plays scenarios until the signal, then waits until those under way have ended. */
  async play(over: AbortSignal): Promise<void> {
    over.addEventListener('abort', () => (this.#isOver = true), { once: true });
    const clients = tenants.flatMap((tenant) =>
      Array.from({ length: this.#size.clients }, (_, index) => this.#client(tenant, `client ${index}`, over)),
    );
    await Promise.all(clients);
  }

  async #client(tenant: string, name: string, over: AbortSignal): Promise<void> {
    const dice = new Dice(this.#size.seed, `${tenant} ${name}`);
    const names = Object.entries(scenarios).flatMap(([each, weight]) =>
      Array<ScenarioName>(weight).fill(each as ScenarioName),
    );
    for (let number = 1; !over.aborted; number += 1)
      await playScenario(dice.pick(names), this.scene(tenant, `${name} ${number}`));
  }

  /** What a client has that is called so: the same words and dice for the same seed. */
  scene(tenant: string, name: string): Scene {
    const { done } = this;
    const dice = new Dice(this.#size.seed, `${tenant} ${name}`);
    let words = 0;
    const word = () => {
      words += 1;
      const hash = createHash('sha256').update(`${this.#size.seed} ${tenant} ${name} ${words}`).digest('hex');
      return `fault-${tenant}-${hash.slice(0, 12)}`;
    };
    return {
      caller: new Caller(this.#world, this.#history, tenant, dice),
      dice,
      word,
      project: () => {
        this.#projects += 1;
        return this.#world.project(`${tenant}-${this.#projects}`, { 'secret.txt': `${word()}\n`, 'marks.txt': '' });
      },
      talk: (conversation) => void done.talks.push({ tenant, conversation }),
      gate: (mine) => void done.gated.push(mine),
      timeout: this.#size.timeout,
      isOver: () => this.#isOver,
      foreign: () => done.talks.find((talk) => talk.tenant !== tenant)?.conversation ?? null,
    };
  }

  /** Decides what is still pending, and waits until nothing runs. Gives false when something runs after so long. */
  async settle(milliseconds: number): Promise<boolean> {
    const until = performance.now() + milliseconds;
    while (performance.now() < until) {
      for (const tenant of tenants) await this.#denyAll(tenant);
      const open = await this.#world.rows('select id from turns where ended_at is null');
      if (open.length === 0) return true;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    return false;
  }

  async #denyAll(tenant: string): Promise<void> {
    const { caller } = this.scene(tenant, 'denies');
    const { status, received } = await caller.ask({ what: 'read', path: 'approvals?status=pending' });
    if (status !== 200) return;
    for (const { approval_id: id } of (JSON.parse(received) as { items: { approval_id: string }[] }).items) {
      await caller.ask({ what: 'decide', path: `approvals/${id}`, body: { decision: 'deny' } });
    }
  }

  /** Says one more thing in conversations that began, the newest first: each of these turns has to end well. */
  async goOn(): Promise<void> {
    const began = new Set(
      (await this.#world.rows("select id from conversations where status = 'idle'")).map(({ id }) => id as string),
    );
    for (const tenant of tenants) {
      const own = this.done.talks.filter((talk) => talk.tenant === tenant && began.has(talk.conversation));
      await Promise.all(own.slice(-this.#size.clients - 1).map((talk) => this.#sayMore(tenant, talk.conversation)));
    }
  }

  async #sayMore(tenant: string, conversation: string): Promise<void> {
    const { caller, word } = this.scene(tenant, `goes on in ${conversation}`);
    const mine = word();
    this.done.finals.push(mine);
    const body = { session_id: conversation, message: promptFor(mine, { do: 'say' }) };
    await caller.insist({
      what: 'continue',
      path: `conversation/${conversation}/continue`,
      body,
      conversation,
      word: mine,
      key: mine,
    });
  }
}
