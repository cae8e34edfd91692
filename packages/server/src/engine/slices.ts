const slice = 100;

/**
 * Calls back for each of many, a hundred at a time, so that whatever else waits for the event loop is not kept long. The
 * first are called before it returns. Those that are added to a set meanwhile are called too, those that leave it are
 * not. `done` is called after the last one. Neither may throw.
 */
export function eachInSlices<T>(many: Iterable<T>, call: (one: T) => void, done: () => void): void {
  const rest = many[Symbol.iterator]();
  const go = () => {
    for (let left = slice; left > 0; left -= 1) {
      const next = rest.next();
      if (next.done === true) return done();
      call(next.value);
    }
    setImmediate(go);
  };
  go();
}
