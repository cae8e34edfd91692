/** Whose run it is. */
export interface Comer {
  readonly tenant: string;
  readonly key: string;
}

/** Who waits, by key, in the order in which the keys are served next. Within a key first come, first served. */
interface Tenant<T> {
  readonly keys: Map<string, Set<T>>;
  size: number;
}

/**
 * A line in which tenants take turns, and within a tenant its keys: who is served goes to the end. Whoever has many in
 * it makes those of others wait for one of them at a time.
 */
export class FairLine<T extends object> {
  /** In the order in which the tenants are served next. None is empty, nor any of their keys. */
  readonly #tenants = new Map<string, Tenant<T>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Puts one at the end of its key. Gives what takes it out again, which does nothing when it is out. */
  add({ tenant: name, key }: Comer, waits: T): () => void {
    const tenant = this.#tenants.get(name) ?? { keys: new Map<string, Set<T>>(), size: 0 };
    this.#tenants.set(name, tenant);
    const queue = tenant.keys.get(key) ?? new Set();
    tenant.keys.set(key, queue);
    queue.add(waits);
    tenant.size += 1;
    this.#size += 1;
    return () => this.#remove(name, key, waits);
  }

  /** Takes out the one that is served next; null when there is none. */
  shift(): T | null {
    const [name, tenant] = first(this.#tenants) ?? [];
    if (name === undefined || tenant === undefined) return null;
    const [key = '', queue = new Set<T>()] = first(tenant.keys) ?? [];
    const [waits] = queue;
    this.#tenants.delete(name);
    this.#tenants.set(name, tenant);
    tenant.keys.delete(key);
    tenant.keys.set(key, queue);
    if (waits === undefined) return null;
    this.#remove(name, key, waits);
    return waits;
  }

  /** How many are served before one that would come now. */
  before({ tenant: name, key }: Comer): number {
    const tenant = this.#tenants.get(name);
    const own = tenant ? beforeIn(tenant.keys, key, tenant.keys.get(key)?.size ?? 0) : 0;
    return beforeIn(this.#tenants, name, own);
  }

  /** All, in the order in which they are served if nobody comes. */
  *inOrder(): Generator<T> {
    yield* takingTurns([...this.#tenants.values()].map(({ keys }) => takingTurns(keys.values())));
  }

  /**
   * The one that has to give way for one that would come when there is no room: the newest of the tenant with the most,
   * and of that the newest of the key with the most, where the newcomer's own has fewer even with it. Null: nobody. So
   * whose only one waits never loses it, and no tenant or key without one is kept out by those with several.
   */
  givingWay({ tenant: name, key }: Comer): T | null {
    const own = this.#tenants.get(name);
    const most = fullest(this.#tenants);
    if (most && (own?.size ?? 0) + 1 < most.size) return newestOf(most);
    const mostOfOwn = own && fullest(own.keys);
    if (mostOfOwn && (own.keys.get(key)?.size ?? 0) + 1 < mostOfOwn.size) return newestOf(own);
    return null;
  }

  #remove(name: string, key: string, waits: T): void {
    const tenant = this.#tenants.get(name);
    const queue = tenant?.keys.get(key);
    if (!tenant || !queue?.delete(waits)) return;
    tenant.size -= 1;
    this.#size -= 1;
    if (queue.size === 0) tenant.keys.delete(key);
    if (tenant.size === 0) this.#tenants.delete(name);
  }
}

type Sized = { readonly size: number };

function first<V>(map: ReadonlyMap<string, V>): [string, V] | undefined {
  for (const entry of map) return entry;
  return undefined;
}

/** Where several take turns: how many come before the one of `name` that has `own` of its own before it. */
function beforeIn(all: ReadonlyMap<string, Sized>, name: string, own: number): number {
  let before = own;
  let isPassed = false;
  for (const [other, { size }] of all) {
    if (other === name) isPassed = true;
    else before += Math.min(size, isPassed ? own : own + 1);
  }
  return before;
}

/** One of each in turns, for as long as it has any. */
function* takingTurns<T>(all: Iterable<Iterable<T>>): Generator<T> {
  let rest = [...all].map((each) => each[Symbol.iterator]());
  while (rest.length > 0) {
    const left: Iterator<T>[] = [];
    for (const each of rest) {
      const next = each.next();
      if (next.done === true) continue;
      yield next.value;
      left.push(each);
    }
    rest = left;
  }
}

/** The one with the most; of several the one that is served last. */
function fullest<V extends Sized>(all: ReadonlyMap<string, V>): V | null {
  let most: V | null = null;
  for (const each of all.values()) if (most === null || each.size >= most.size) most = each;
  return most;
}

const newestOf = <T>({ keys }: Tenant<T>): T | null => [...(fullest(keys) ?? [])].at(-1) ?? null;
