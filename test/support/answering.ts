/** Resolves when a server that was started answers; rejects with what it said when it ends instead. */
export async function answering(
  name: string,
  ask: () => Promise<unknown>,
  exited: Promise<unknown>,
  said: () => string,
): Promise<void> {
  let over = false;
  void exited.then(() => (over = true));
  for (;;) {
    try {
      await ask();
      return;
    } catch (error) {
      if (over) throw new Error(`${name} ended: ${said()}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
