import type { FastifyInstance } from 'fastify';

const idleCheckMs = 50;
const stopGraceMs = 2_000;

/**
 * Closes an app made by `createApp`: takes no more connections, answers new requests on open ones with `not_ready`, and
 * lets the answers that are open end. Answers that only follow a conversation end at once: what they read can be read on
 * after their last cursor, and so do sockets, which are told so. Shortly before the deadline the turns that are left are
 * stopped, so that their answers end with what there is; at the deadline every connection is cut. `deadlineMs` counts
 * from the call.
 */
export async function closeApp(app: FastifyInstance, deadlineMs: number): Promise<void> {
  const { appState, server } = app;
  const stopTurns = () => {
    appState.runs.stopAll();
    appState.stopTurns().catch((error: unknown) => app.log.error({ err: error }, 'the turns could not be stopped'));
  };
  appState.closing = true;
  appState.readers.stopAll();
  app.sockets.goAway();
  const timers = [
    setInterval(() => server.closeIdleConnections(), idleCheckMs),
    setTimeout(stopTurns, deadlineMs - Math.min(stopGraceMs, deadlineMs / 2)),
    setTimeout(() => {
      server.closeAllConnections();
      app.sockets.terminate();
    }, deadlineMs),
  ];
  try {
    await app.close();
  } finally {
    for (const timer of timers) clearTimeout(timer);
  }
}
