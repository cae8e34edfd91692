import { newUuid } from '../engine/ids.ts';
import type { Profile, RunOrder } from '../engine/ports.ts';
import { clear, warmUp, type ReuseBounds } from './clearing.ts';
import { isFirst } from './live.ts';
import { parkProcess, startProcess } from './process.ts';
import { endProcess, planOf, processIn, type ProcessParts, type RunProcess } from './run-process.ts';
import { createWaitingMirror } from './transcripts.ts';

/** What is fixed of a spare when it starts. Nothing of a tenant is: whoever comes first gets it. */
export type SpareShape = Pick<Profile, 'access' | 'tools' | 'model'> & {
  /**
   * `warm`: it has run a turn that went nowhere, and takes a message at once; for runs that add nothing to Claude Code's
   * own settings. `parked`: it begins its session with the run's system prompt and effort, which takes longer.
   */
  readonly kind: 'warm' | 'parked';
};

export interface SparesOptions extends ProcessParts {
  /** How many are kept ready. 0: none. */
  readonly count: number;
  /** What they are made for before it is known what is asked for. */
  readonly shapes: readonly SpareShape[];
  /** True while one more may be there and be started. */
  readonly mayStart: () => boolean;
  /** Ends what has to give way to one more. */
  readonly makeRoom: () => Promise<void>;
}

interface Spare {
  readonly shape: SpareShape;
  readonly process: RunProcess;
}

/** A spare that is being made. */
interface Coming {
  readonly shape: SpareShape;
  /** True once somebody waits for it. */
  taken: boolean;
  /** Null when it could not be made. */
  readonly made: Promise<RunProcess | null>;
}

/** When it is tried again to make a spare, in milliseconds. */
const retryMs = 5_000;

/** One session to get warm in, one to be used. */
const bounds: ReuseBounds = { sessions: 2, memoryBytes: Infinity };

/**
 * Processes that were started before anybody asked for them. One that is taken is replaced by one of the same shape;
 * a run that found none has one of its shape made, in the place of that shape which was not asked for the longest.
 * They are made one at a time, and only while there is room to start others besides.
 */
export class Spares {
  readonly #options: SparesOptions;
  readonly #ready: Spare[] = [];
  readonly #ending = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  /** The shapes to be had, one for each spare; those asked for last come last. */
  #wanted: SpareShape[];
  #making: Promise<void> | null = null;
  #coming: Coming | null = null;

  constructor(options: SparesOptions) {
    this.#options = options;
    const { shapes, count } = options;
    this.#wanted =
      shapes.length === 0 ? [] : Array.from({ length: count }, (_, index) => shapes[index % shapes.length]!);
  }

  /** How many are ready. */
  get size(): number {
    return this.#ready.length;
  }

  /** True when the process of a jail is a spare. */
  has(jail: string): boolean {
    return this.#ready.some(({ process }) => process.jail.id === jail);
  }

  /** A spare that can take the turn; null when there is none. What is asked for is made again. */
  take(order: RunOrder): RunProcess | null {
    const shape = shapeFor(order);
    if (shape === null || this.#options.count === 0) return null;
    this.#want(shape);
    const index = this.#ready.findIndex((spare) => isSame(spare.shape, shape));
    return index === -1 ? null : this.#ready.splice(index, 1)[0]!.process;
  }

  /** The spare that is just being made, if it can take the turn: it is further than one that would be started now. */
  async takeComing(order: RunOrder): Promise<RunProcess | null> {
    const coming = this.#coming;
    const shape = shapeFor(order);
    if (shape === null || coming === null || coming.taken || !isSame(coming.shape, shape)) return null;
    coming.taken = true;
    return await coming.made;
  }

  /** Begins to make what is missing, if now is the time. */
  refill(): void {
    if (this.#making !== null || this.#closing.signal.aborted) return;
    this.#making = this.#makeMissing().finally(() => {
      this.#making = null;
    });
  }

  /** Ends spares until at most so many are left, and waits until they are gone. */
  async fit(count: number): Promise<void> {
    while (this.#ready.length > Math.max(0, count)) this.#end(this.#ready.shift()!);
    await Promise.all(this.#ending);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#making;
    await this.fit(0);
  }

  #want(shape: SpareShape): void {
    const index = this.#wanted.findIndex((each) => isSame(each, shape));
    const [known] = index === -1 ? [] : this.#wanted.splice(index, 1);
    this.#wanted.push(known ?? shape);
    this.#wanted = this.#wanted.slice(-this.#options.count);
  }

  async #makeMissing(): Promise<void> {
    for (let shape = this.#missing(); shape !== null; shape = this.#missing()) {
      if (!this.#options.mayStart()) return;
      if (!(await this.#make(shape))) return;
    }
  }

  /** A shape that is wanted more often than it is there. One that is there and not wanted gives way. */
  #missing(): SpareShape | null {
    if (this.#closing.signal.aborted) return null;
    const left = [...this.#ready];
    let missing: SpareShape | null = null;
    for (const shape of this.#wanted) {
      const index = left.findIndex((spare) => isSame(spare.shape, shape));
      if (index === -1) missing = shape;
      else left.splice(index, 1);
    }
    if (missing === null) return null;
    for (const spare of left) this.#end(this.#ready.splice(this.#ready.indexOf(spare), 1)[0]!);
    return missing;
  }

  /** False when it could not be made. */
  async #make(shape: SpareShape): Promise<boolean> {
    const { starts, log } = this.#options;
    const leave = await starts.enter({ tenant: '', key: '' }, this.#closing.signal);
    if (leave === null) return false;
    const { promise: made, resolve } = Promise.withResolvers<RunProcess | null>();
    const coming: Coming = { shape, taken: false, made };
    this.#coming = coming;
    let process: RunProcess | null = null;
    try {
      await this.#options.makeRoom();
      process = await startSpare(this.#options, shape);
      return true;
    } catch (error) {
      log.warn({ err: error, retryMs }, 'a spare process could not be made');
      this.#refillLater();
      return false;
    } finally {
      leave();
      this.#coming = null;
      resolve(process);
      if (process !== null && !coming.taken) this.#keep({ shape, process });
    }
  }

  #keep(spare: Spare): void {
    if (this.#closing.signal.aborted) return this.#end(spare);
    this.#ready.push(spare);
    void spare.process.jail.exited.then(() => this.#lost(spare));
  }

  #lost(spare: Spare): void {
    const index = this.#ready.indexOf(spare);
    if (index === -1) return;
    this.#end(this.#ready.splice(index, 1)[0]!);
    this.#refillLater();
  }

  #refillLater(): void {
    setTimeout(() => this.refill(), retryMs).unref();
  }

  #end({ process }: Spare): void {
    const ending = endProcess(process, true, this.#options.log);
    this.#ending.add(ending);
    void ending.finally(() => this.#ending.delete(ending));
  }
}

/** The shape of a spare that can take the turn; null when none can: its place or its answer's shape is fixed at the start. */
function shapeFor(order: RunOrder): SpareShape | null {
  const { projectPath, outputSchema, systemPrompt, effort, access, tools, model } = order.profile;
  if (!isFirst(order) || projectPath !== null || outputSchema !== null) return null;
  return { kind: systemPrompt === null && effort === null ? 'warm' : 'parked', access, tools, model };
}

function isSame(one: SpareShape, other: SpareShape): boolean {
  const key = ({ kind, access, tools, model }: SpareShape) => JSON.stringify([kind, access, tools.toSorted(), model]);
  return key(one) === key(other);
}

/** Starts a process for nobody yet. Rejects when it cannot; nothing of it is left then. */
async function startSpare({ jails, broker, log }: ProcessParts, shape: SpareShape): Promise<RunProcess> {
  const { access, tools, model } = shape;
  const jail = await jails.open({ projectPath: null, access, bash: tools.includes('Bash') });
  const pass = broker.issue();
  const process = processIn(jail, pass, newUuid(), createWaitingMirror(new Set()));
  // Nobody's: it says for nothing that is written down, and is the tenant's who takes it.
  const nobody = { tenant: '', projectPath: null, permissionMode: 'strict', effort: null } as const;
  const profile: Profile = { ...nobody, access, tools, model, systemPrompt: null, outputSchema: null };
  const plan = { ...planOf(process, profile), resume: false, recovery: false };
  try {
    if (shape.kind === 'parked') {
      process.parked = await parkProcess(plan, log);
      return process;
    }
    pass.answerItself();
    process.claude = startProcess(plan, log);
    await process.claude.started;
    await warmUp(process.claude, newUuid());
    await clear(process, profile, bounds);
    return process;
  } catch (error) {
    await endProcess(process, false, log);
    throw error;
  }
}
