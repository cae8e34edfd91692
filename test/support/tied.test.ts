import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { answering } from './answering.ts';
import { startNginx } from './nginx.ts';
import { processesWith } from './processes.ts';
import { startRedis } from './redis.ts';
import { startTied } from '../../examples/cluster/tied.ts';

let made = 0;

/** A program that runs for ever, and a text that is in the arguments of all that belongs to it. */
function aServer(): { readonly mark: string; readonly command: string[] } {
  const mark = `tied-${process.pid}-${(made += 1)}`;
  return { mark, command: [process.execPath, '-e', "console.log('ready'); setInterval(() => {}, 1000)", mark] };
}

/** Waits until nothing has the mark. */
async function gone(mark: string): Promise<void> {
  while ((await processesWith(mark)).length > 0) await delay(20);
}

/** The program itself; its shell and the watcher have the mark too. */
async function programOf(mark: string): Promise<number> {
  for (;;) {
    const found = (await processesWith(mark)).find(({ command }) => command.startsWith(process.execPath));
    if (found) return found.pid;
  }
}

test('a program that is missing is told of, and nothing is left', async () => {
  const program = startTied(['no-such-program', 'tied-missing'], { signal: 'TERM' });
  await assert.rejects(
    program.until(() => false),
    /no-such-program ended: [^]*not found/u,
  );
  await gone('tied-missing');
});

test('a program that ends before it is ready is told of with what it said, and nothing is left', async () => {
  const program = startTied(['/bin/sh', '-c', 'echo cannot; echo bind >&2; exit 3', 'tied-early'], { signal: 'TERM' });
  await assert.rejects(
    program.until(() => false),
    ({ message }: Error) => message.includes('cannot') && message.includes('bind'),
  );
  await program.end();
  await gone('tied-early');
});

for (const signal of ['INT', 'TERM', 'KILL'] as const) {
  test(`a program runs until it is to end, by ${signal}, and nothing is left`, async () => {
    const { mark, command } = aServer();
    const program = startTied(command, { signal });
    await program.until(() => program.said().includes('ready'));
    await program.end();
    await gone(mark);
  });

  test(`a program that is to end before it has begun ends, by ${signal}, and nothing is left`, async () => {
    const { mark, command } = aServer();
    await startTied(command, { signal }).end();
    await gone(mark);
  });
}

test('a program that was killed is over, and nothing is left', async () => {
  const { mark, command } = aServer();
  const program = startTied(command, { signal: 'TERM' });
  await program.until(() => program.said().includes('ready'));
  process.kill(await programOf(mark), 'SIGKILL');
  await program.ended;
  await gone(mark);
});

test('when its shell is killed the program ends too', async () => {
  const { mark, command } = aServer();
  const program = startTied(command, { signal: 'TERM' });
  await program.until(() => program.said().includes('ready'));
  const shell = (await processesWith(mark)).find(({ parent }) => parent === process.pid);
  process.kill(shell!.pid, 'SIGKILL');
  await program.ended;
  await gone(mark);
});

test('when the process that started it is killed the program ends', async () => {
  const { mark, command } = aServer();
  const owner = `
    import { startTied } from ${JSON.stringify(new URL('../../examples/cluster/tied.ts', import.meta.url).href)};
    const program = startTied(${JSON.stringify(command)}, { signal: 'TERM' });
    await program.until(() => program.said().includes('ready'));
    console.log('started');
    await program.ended;`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', owner], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await gone(mark);
});

for (const [name, start] of [
  ['Redis', () => startRedis()],
  ['nginx', () => startNginx([])],
] as const) {
  test(`that ${name} is missing is told`, async (t) => {
    const { PATH } = process.env;
    t.after(() => (process.env['PATH'] = PATH));
    process.env['PATH'] = '/nowhere';
    await assert.rejects(start(), new RegExp(`${name}[^]* ended: [^]*not found`, 'u'));
  });
}

test('what answers in the place of a server that has ended is not taken for it', async () => {
  const silent = () => new Promise<never>(() => undefined);
  for (const ask of [silent, () => Promise.reject(new Error('another one'))]) {
    await assert.rejects(
      answering('It', ask, Promise.resolve(), () => 'cannot bind'),
      /It ended: cannot bind/u,
    );
  }
});
