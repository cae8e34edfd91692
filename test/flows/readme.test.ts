import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { startSimulator } from '@sallyport/simulator';
import { startProgram, upstreamKey } from '../support/service.ts';

const run = promisify(execFile);
const repository = new URL('../../', import.meta.url).pathname;
const readme = await readFile(join(repository, 'README.md'), 'utf8');
const shellBlocks = [...readme.matchAll(/^```sh\n(.*?)^```/gmsu)].map((match) => match[1] ?? '');

/** A directory that looks like a clone, the program started in it as the README says. */
async function started(context: TestContext, env: Record<string, string> = {}) {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'sallyport-readme-')));
  const directory = join(base, 'clone');
  await mkdir(directory);
  await writeFile(join(directory, 'README.md'), '# A garden\nRoses grow here.\n');
  await mkdir(join(directory, 'docs'));
  const program = await startProgram({ SALLYPORT_PORT: '0', ...env }, directory);
  context.after(async () => {
    program.signal('SIGTERM');
    await program.exited;
    await rm(base, { recursive: true, force: true });
  });
  const shell = (script: string) =>
    run('bash', ['-euo', 'pipefail', '-c', script.replaceAll('http://127.0.0.1:8000', program.url)], {
      cwd: directory,
    });
  return { directory, program, shell };
}

test('every curl of the README works as it stands', async (context) => {
  const { shell } = await started(context);
  const curls = shellBlocks.filter((block) => block.includes('curl'));
  assert.ok(curls.length >= 3, 'the README shows a query, a stream and files');
  const outputs = [];
  for (const block of curls) outputs.push((await shell(block)).stdout);
  const [query, stream, files] = outputs as [string, string, string];
  const answer = JSON.parse(query);
  assert.equal(answer.success, true);
  assert.ok(answer.tools_used.includes('Read'));
  assert.match(answer.messages.at(-1).content, /README\.md/u);
  assert.equal(answer.model, 'sallyport-simulator');
  assert.ok(answer.usage.input_tokens > 0 && answer.execution_time > 0);
  assert.match(stream, /^data: \{.*"type":"tool_start"/mu);
  assert.ok(stream.trimEnd().endsWith('data: [DONE]'));
  assert.equal(JSON.parse(files).success, true);
});

test('the shape that the README shows is the shape that comes', async (context) => {
  const { shell } = await started(context);
  const shown = JSON.parse(/^```json\n(.*?)^```/msu.exec(readme)?.[1] ?? '{}');
  const [first] = shellBlocks.filter((block) => block.includes('curl'));
  const real = JSON.parse((await shell(first ?? '')).stdout);
  for (const field of Object.keys(shown)) assert.equal(typeof real[field], typeof shown[field], field);
});

test('with a key of the upstream the same query goes there, and only the service sends that key', async (context) => {
  const simulator = await startSimulator();
  context.after(() => simulator.close());
  const { shell, program } = await started(context, {
    ANTHROPIC_API_KEY: upstreamKey,
    ANTHROPIC_BASE_URL: simulator.url,
    SALLYPORT_MODELS: 'sallyport-simulator',
  });
  const [first] = shellBlocks.filter((block) => block.includes('curl'));
  const answer = JSON.parse((await shell(first ?? '')).stdout);
  assert.equal(answer.success, true);
  assert.ok(simulator.requests.length > 0);
  for (const request of simulator.requests) assert.equal(request.headers['x-api-key'], upstreamKey);
  assert.ok(!program.output().includes(upstreamKey));
});

test('every command of the README exists', async () => {
  const { scripts } = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8'));
  const commands = [...readme.matchAll(/npm (start|test|run [\w:-]+)/gu)].map((match) =>
    (match[1] ?? '').replace('run ', ''),
  );
  assert.ok(commands.includes('start') && commands.includes('test'));
  for (const command of commands) assert.ok(scripts[command], `npm ${command}`);
  for (const match of readme.matchAll(/npm test -- (\S+)|bash (\S+)/gu)) {
    await readFile(join(repository, match[1] ?? match[2] ?? ''));
  }
  for (const match of readme.matchAll(/\]\((?!https?:)([^)#]+)\)/gu)) {
    await access(join(repository, match[1] ?? ''));
  }
});
