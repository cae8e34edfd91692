import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type ListenOptions } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { onGrounds, type Grounds } from '../support/canaries.ts';
import { leftOut } from '../support/needs.ts';
import type { TestService } from '../support/service.ts';
import { dumps, escapes, lookers, readers, talkers, writers } from '../support/shell.ts';
import { assertHeld, makeBaited, runAll, type Ran } from '../support/shell-runs.ts';

/** In the environment of the server. */
const serverSecret = 'canary-of-the-server-5e1c';

let service: TestService;
let grounds: Grounds;

const looking = () => grounds.outsides.flatMap(({ directory }) => lookers.map((look) => look(directory)));
const held = (project: string, done: Ran) => assertHeld(service, grounds, project, done, [serverSecret]);

describe('commands that try to leave', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  before(() => {
    process.env['SERVER_SECRET'] = serverSecret;
  });
  onGrounds((made) => ({ service, grounds } = made));
  after(() => {
    delete process.env['SERVER_SECRET'];
  });

  test('read the workspace, and nothing else, however they are written', async () => {
    const project = await makeBaited(service, 'readers');
    const secret = join(grounds.outsides.find(({ name }) => name === 'data')?.directory ?? '', 'secret.txt');
    assert.ok((await readFile(secret, 'utf8')).includes(grounds.canary));
    const ways = Object.entries(readers);
    const commands = ways.map(([, [program, read]]) => {
      const both = `(${read(`${project}/bait.txt`)}\n)\n(${read(secret)}\n)`;
      return `if ! command -v ${program} >/dev/null; then echo ABSENT-$((6*7)); else\n${both}\nfi`;
    });
    const done = await runAll(service, project, commands);
    await held(project, done);
    const blind = ways.filter((_, index) => !/bait-of-the-workspace|ABSENT-42/u.test(done.texts[index] ?? ''));
    assert.deepEqual(
      blind.map(([name]) => name),
      [],
      'every way works on what may be read',
    );
  });

  test('see no file of the host, of the service, of other runs', async () => {
    const project = await makeBaited(service, 'lookers');
    await held(project, await runAll(service, project, looking()));
  });

  test('write nowhere else, and get into no other namespace', async () => {
    const project = await makeBaited(service, 'writers');
    const commands = [...writers(grounds.outsides.map(({ directory }) => directory)), ...escapes];
    await held(project, await runAll(service, project, commands));
  });

  test('know no secret of the server', async () => {
    const project = await makeBaited(service, 'dumps');
    await held(project, await runAll(service, project, dumps));
  });

  test('do no better when they ask for no sandbox', async () => {
    const project = await makeBaited(service, 'unboxed');
    const commands = [...dumps, ...looking().slice(0, 20), ...escapes.slice(0, 20)];
    await held(project, await runAll(service, project, commands, { dangerouslyDisableSandbox: true }));
  });

  test('talk to nobody', async (t) => {
    const project = await makeBaited(service, 'talkers');
    const tcp = await listen(t, { port: 0, host: '0.0.0.0' });
    const abstract = await listen(t, { path: `\0shell-corpus-${process.pid}` });
    const socket = await listen(t, { path: join(project, 'api.sock') });
    const udp = createSocket('udp4').bind(0, '0.0.0.0');
    t.after(() => udp.close());
    await once(udp, 'listening');
    let packets = 0;
    udp.on('message', () => (packets += 1));
    const own = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
    const commands = talkers({
      tcp: tcp.port,
      udp: udp.address().port,
      service: Number(new URL(service.url).port),
      abstract: `shell-corpus-${process.pid}`,
      sockets: ['/.sallyport/broker/api.sock', join(project, 'api.sock')],
      hosts: ['127.0.0.1', 'localhost', ...own.filter((address) => !address.includes(':')).slice(0, 2)],
    });
    const asked = () => service.logs.filter((line) => line.includes('/api/claude/models')).length;
    await held(project, await runAll(service, project, commands));
    assert.deepEqual([tcp.count(), abstract.count(), socket.count(), packets], [0, 0, 0, 0]);
    assert.equal(asked(), 0);
    // It would be seen.
    await fetch(`${service.url}/api/claude/models`);
    assert.equal(asked(), 1);
    await once(connect(tcp.port, '127.0.0.1'), 'connect');
  });
});

async function listen(t: TestContext, where: ListenOptions): Promise<{ port: number; count(): number }> {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.destroy();
  }).listen(where);
  t.after(() => server.close());
  await once(server, 'listening');
  const address = server.address() as AddressInfo | string;
  return { port: typeof address === 'string' ? 0 : address.port, count: () => connections };
}
