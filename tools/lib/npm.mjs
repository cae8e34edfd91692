import { spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { onSignal, signalExitCode } from './child.mjs';
import { Readable } from './say.mjs';

const KEPT_OUTPUT = 64 * 1024;
/** The same tree whatever NODE_ENV says; `http` names the requests that failed, which npm hides for optional packages. */
const CI = ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--no-progress', '--loglevel=http'];

/** When nothing came through for this long, npm is stopped: it would go on to try each package three times, for minutes. */
const OUTAGE_MS = 15_000;
const DOWNLOADED = /http fetch GET (?:2\d\d|304)\b/;

const UNREACHABLE =
  /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|EIDLETIMEOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED)\b/;
const UNTRUSTED = /\b(UNABLE_TO_\w+|SELF_SIGNED_CERT\w*|DEPTH_ZERO_SELF_SIGNED_CERT|CERT_\w+|ERR_TLS_\w+)\b/;
const REFUSED = /\b(E40[13]|ENEEDAUTH|40[13] (?:Unauthorized|Forbidden))\b/;
const ABSENT = /\b(E404|ETARGET|404 Not Found)\b/;
const NO_RIGHTS = /\b(EACCES|EPERM|EROFS)\b/;

/**
 * Runs `npm ci` in a folder and keeps its output to itself.
 * @param {{folder: string, node: string, env: Record<string, string | undefined>, onPid: (pid: number) => void}} options
 *   `node` is the Node that npm itself runs under; `onPid` is told npm's pid
 * @returns {Promise<string>} the last 64 kB of npm's output
 * @throws {Readable} with the reason in one line, after npm's own errors
 */
export async function npmCi({ folder, node, env, onPid }) {
  const npm = findNpm(env);
  const [command, args] = npm.endsWith('.js') ? [node, [npm, ...CI]] : [npm, CI];
  const { code, stoppedBy, output } = await collect(command, args, { folder, env: impatient(env), onPid });
  if (stoppedBy) throw new Readable(`stopped by ${stoppedBy} while npm was running`, signalExitCode(stoppedBy));
  if (code === 0) return output;
  const reason = explain(output);
  if (!reason) process.stderr.write(`${complaints(output)}\n`);
  throw new Readable(`npm ci failed in ${folder}: ${reason ?? `it ended with exit code ${code}, see above`}`);
}

/** What npm's output says about why something is missing and what to do, or undefined when it is something else. */
export function explain(output) {
  const code = (pattern) => pattern.exec(output)?.[1];
  if (code(UNREACHABLE)) {
    return (
      `the package registry could not be reached (${code(UNREACHABLE)}); ` +
      'check the network, or the registry and proxy that npm is configured with, and run the same command again'
    );
  }
  if (code(UNTRUSTED)) {
    return (
      `the registry's certificate is not trusted (${code(UNTRUSTED)}); ` +
      "set NODE_EXTRA_CA_CERTS or npm's cafile to your network's certificate and run the same command again"
    );
  }
  if (code(REFUSED))
    return `the package registry refused access (${code(REFUSED)}); log in to it with npm and try again`;
  if (/\bENOSPC\b/.test(output)) return 'the disk is full (ENOSPC); free about 2 GB and run the same command again';
  if (code(NO_RIGHTS))
    return `this user may not write there (${code(NO_RIGHTS)}); make the folder writable and try again`;
  if (code(ABSENT)) return `the configured registry lacks a package (${code(ABSENT)}); use one that mirrors npmjs.org`;
  return undefined;
}

/** npm's own error lines, without the requests and warnings around them. */
function complaints(output) {
  const lines = output.split('\n').filter((line) => /^npm (error|ERR!)/.test(line));
  return (lines.length > 0 ? lines : output.split('\n')).slice(-30).join('\n');
}

/** npm waits over a minute before it says that nothing answers; fewer seconds between its tries, unless set by the user. */
function impatient(env) {
  return { npm_config_fetch_retry_mintimeout: '1000', npm_config_fetch_retry_maxtimeout: '8000', ...env };
}

function findNpm(env) {
  const started = env.npm_execpath;
  if (started && basename(started) === 'npm-cli.js' && existsSync(started)) return started;
  const beside = join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js');
  if (existsSync(beside)) return beside;
  for (const folder of (env.PATH ?? '').split(':')) {
    const candidate = join(folder || '.', 'npm');
    if (existsSync(candidate)) return realpathSync(candidate);
  }
  throw new Readable('npm was not found; install Node.js together with npm and run the same command again');
}

function collect(command, args, { folder, env, onPid }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let stoppedBy;
    let failingSince;
    const keep = (chunk) => {
      output = (output + chunk).slice(-KEPT_OUTPUT);
      if (DOWNLOADED.test(chunk)) failingSince = undefined;
      else if (UNREACHABLE.test(chunk)) failingSince ??= performance.now();
      if (performance.now() - failingSince > OUTAGE_MS) child.kill();
    };
    const stop = onSignal((signal) => {
      stoppedBy = signal;
      child.kill(signal);
    });
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    child.once('error', (error) => {
      stop();
      reject(new Readable(`npm could not be started: ${error.message}`));
    });
    child.once('close', (code, signal) => {
      stop();
      resolve({ code: code ?? signalExitCode(signal), stoppedBy, output });
    });
    if (child.pid) onPid(child.pid);
  });
}
