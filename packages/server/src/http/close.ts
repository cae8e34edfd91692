import type { FastifyInstance } from 'fastify';

const idleCheckMs = 50;
const stopGraceMs = 2_000;

/**
 * Closes an app made by `createApp`: takes no more connections, answers new requests on open ones with `not_ready`, and
 * lets the answers that are open end. Answers that only follow a conversation end at once: what they read can be read on
 * after their last cursor. Shortly before the deadline the runs that are left are stopped, so that their
 * answers end with what there is; at the deadline every connection is cut. `deadlineMs` counts from the call.
 */
export async function closeApp(app: FastifyInstance, deadlineMs: number): Promise<void> {
  const { appState, server } = app;
  appState.closing = true;
  appState.readers.stopAll();
  const timers = [
    setInterval(() => server.closeIdleConnections(), idleCheckMs),
    setTimeout(() => appState.runs.stopAll(), deadlineMs - Math.min(stopGraceMs, deadlineMs / 2)),
    setTimeout(() => server.closeAllConnections(), deadlineMs),
  ];
  try {
    await app.close();
  } finally {
    for (const timer of timers) clearTimeout(timer);
  }
}
