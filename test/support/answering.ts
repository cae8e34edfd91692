/** Resolves when a server that was started answers; rejects with what it said when it ends instead, whoever answers or not. */
export async function answering(
  name: string,
  ask: () => Promise<unknown>,
  exited: Promise<unknown>,
  said: () => string,
): Promise<void> {
  let over = false;
  const ended = exited.then(() => void (over = true));
  let cause: unknown = null;
  for (;;) {
    try {
      await Promise.race([ask(), ended]);
      if (!over) return;
    } catch (error) {
      cause = error;
    }
    if (over) throw new Error(`${name} ended: ${said()}`, { cause });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
