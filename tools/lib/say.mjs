/** A failure whose message is one readable line for the person at the terminal; no stack is shown. */
export class Readable extends Error {
  /**
   * @param {string} message what failed and what to do
   * @param {number} exitCode the program's exit code
   */
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Progress goes to stderr, so that the program's own stdout stays clean. */
export function say(line) {
  process.stderr.write(`sallyport: ${line}\n`);
}

const REMINDER_SECONDS = 5;

/**
 * Runs one step and shows that it goes on: a line at its start, one every five seconds, and one at its end.
 * @template T
 * @param {string} what the step, such as "installing packages"
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function step(what, work) {
  const start = Date.now();
  const seconds = () => Math.round((Date.now() - start) / 1000);
  say(`${what} ...`);
  const reminder = setInterval(() => say(`${what} ... ${seconds()} s`), REMINDER_SECONDS * 1000);
  try {
    const result = await work();
    say(`${what}: done in ${seconds()} s`);
    return result;
  } finally {
    clearInterval(reminder);
  }
}
