#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { startSimulator } from './server.ts';
import { parseScript } from './script.ts';
import type { Script } from './types.ts';

const help = `Usage: sallyport-simulator [--script file.json] [--port N] [--host H]

A simulated Messages API. Without a script its demo brain answers.

  --script file.json  what to answer: {"steps": [...]} or the array alone
  --port N            0 to 65535; default 0, any free port
  --host H            address to listen on; default 127.0.0.1
  --help              this text

Exit codes: 0 stopped or help, 1 cannot start, 2 wrong usage.
`;

/** A mistake of whoever called; the message is one line. */
class UsageError extends Error {}

function readArguments(): { script?: string; port: number; host: string; help: boolean } {
  const options = {
    script: { type: 'string' },
    port: { type: 'string', default: '0' },
    host: { type: 'string', default: '127.0.0.1' },
    help: { type: 'boolean', short: 'h', default: false },
  } as const;
  try {
    const { values } = parseArgs({ options });
    const port = Number(values.port);
    if (!/^\d+$/.test(values.port) || port > 65_535) throw new Error(`--port ${values.port} is no port number`);
    return { ...values, port };
  } catch (error) {
    throw new UsageError(oneLine(error), { cause: error });
  }
}

function readScript(file: string): Script {
  try {
    return parseScript(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    throw new Error(`cannot use the script ${file}: ${oneLine(error)}`, { cause: error });
  }
}

function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, ' ').trim();
}

async function main(): Promise<void> {
  const values = readArguments();
  if (values.help) {
    process.stdout.write(help);
    return;
  }
  const script = values.script === undefined ? {} : { script: readScript(values.script) };
  const simulator = await startSimulator({ host: values.host, port: values.port, recordBodies: false, ...script });
  process.stdout.write(`${simulator.url}\n`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void simulator.close());
}

try {
  await main();
} catch (error) {
  process.stderr.write(`sallyport-simulator: ${oneLine(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
