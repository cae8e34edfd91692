/** Calls back when the signal is aborted, at once when it is already. */
export function onAbort(signal: AbortSignal, listener: () => void): void {
  signal.addEventListener('abort', listener, { once: true });
  if (signal.aborted) listener();
}

/** Resolves when the signal is aborted. */
export function onceAborted(signal: AbortSignal): Promise<'aborted'> {
  return new Promise((resolve) => onAbort(signal, () => resolve('aborted')));
}
