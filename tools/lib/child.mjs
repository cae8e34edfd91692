import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { Readable } from './say.mjs';

/** Ctrl-C reaches us from the terminal and again from npm, which forwards it; two so close together are one. */
const SAME_SIGNAL_MS = 1_000;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const LIFELINE = pathToFileURL(fileURLToPath(new URL('lifeline.mjs', import.meta.url))).href;

/**
 * Calls `deliver` once for each SIGINT, SIGTERM or SIGHUP this process is sent, doubles left out.
 * @param {(signal: NodeJS.Signals) => void} deliver
 * @returns {() => void} stops listening
 */
export function onSignal(deliver) {
  const last = new Map();
  const listeners = SIGNALS.map((signal) => [
    signal,
    () => {
      const now = performance.now();
      if (now - (last.get(signal) ?? -Infinity) < SAME_SIGNAL_MS) return;
      last.set(signal, now);
      deliver(signal);
    },
  ]);
  for (const [signal, listener] of listeners) process.on(signal, listener);
  return () => {
    for (const [signal, listener] of listeners) process.off(signal, listener);
  };
}

/** The exit code that stands for an end by this signal. */
export function signalExitCode(signal) {
  return 128 + (constants.signals[signal] ?? 0);
}

/**
 * Runs a JavaScript or TypeScript file under the given Node with this terminal's streams, until it ends. The program has
 * a session of its own: a terminal's Ctrl-C reaches it through us only, and therefore once.
 * @param {string} node path of the Node executable
 * @param {string[]} args the file and its arguments
 * @param {Record<string, string | undefined>} env
 * @returns {Promise<number>} its exit code, or 128 + the number of the signal that ended it
 */
export function runProgram(node, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(node, ['--import', LIFELINE, ...args], {
      stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
      detached: true,
      env: { ...env, SALLYPORT_LIFELINE: '1' },
    });
    const stop = onSignal((signal) => child.kill(signal));
    child.stdio[3].on('error', () => {});
    child.once('error', (error) => {
      stop();
      reject(new Readable(`${node} could not be started: ${error.message}`));
    });
    child.once('exit', (code, signal) => {
      stop();
      resolve(code ?? signalExitCode(signal));
    });
  });
}
