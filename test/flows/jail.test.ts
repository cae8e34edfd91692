import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFile, readlink, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type ListenOptions, type Server } from 'node:net';
import { homedir, networkInterfaces } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { Brain, Step } from '@sallyport/simulator';
import {
  claudeInJail,
  commandStep,
  isRoot,
  printedBy,
  ran,
  runInJail,
  sleepSeconds,
  strict,
} from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { play } from '../support/played.ts';
import { masterKey, startService, unshared, upstreamKey, userKey, type TestService } from '../support/service.ts';

const canary = 'canary-of-the-host-81d2';
const brokerSocket = '/.sallyport/broker/api.sock';

let service: TestService;

describe('what a run can see', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  before(async () => {
    process.env['SECRET_CANARY'] = canary;
    service = await startService({ env: unshared });
    assert.equal(service.sallyport.jailed, true);
    await writeFile(join(service.dataDir, 'canary-file'), canary);
    await writeFile(join(service.root, 'canary-file'), canary);
  });
  after(async () => {
    delete process.env['SECRET_CANARY'];
    await service.close();
  });

  test('no file of the host can be seen', async () => {
    const { runDir } = service.sallyport.settings;
    const repository = new URL('../../', import.meta.url).pathname;
    const paths = ['/etc/shadow', '/root', homedir(), '/home', '/var/log', '/sys', service.dataDir, service.root];
    const more = [dirname(service.root), repository, join(runDir, 'broker'), '/proc/1/root/', '/proc/1/cwd/'];
    const list = [...paths, ...more].map((path) => `'${path}'`).join(' ');
    const { printed } = await runInJail(service, {
      look: `for path in ${list}; do ls -A "$path" >/dev/null 2>&1 && echo "sees $path"; cat "$path"/* 2>/dev/null; done`,
      find: `find / -name 'canary-file*' -not -path '/proc/*' 2>/dev/null; cat /etc/passwd; ls -A /tmp | wc -l`,
      own: `ls ${runDir} ${runDir}/jails | grep -c proc-; ls -A /workspace`,
    });
    assert.equal(printed['look'], ran);
    assert.match(printed['find']!, /^root:x:0:0::\/:\/bin\/sh\nclaude:x:\d+:\d+::\/tmp\/home:\/bin\/sh\n\d\n/u);
    assert.match(printed['own']!, /^1\n/u);
    assert.doesNotMatch(JSON.stringify(printed), new RegExp(`${canary}|canary-file`, 'u'));
  });

  test('there is no network, not even to the host itself', async (t) => {
    const tcp = await listen(t, { port: 0, host: '0.0.0.0' });
    const abstract = await listen(t, { path: `\0sallyport-test-${process.pid}` });
    const udp = createSocket('udp4').bind(0, '0.0.0.0');
    t.after(() => udp.close());
    await once(udp, 'listening');
    let packets = 0;
    udp.on('message', () => (packets += 1));
    const { port } = tcp.server.address() as AddressInfo;
    const own = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
    const hosts = ['127.0.0.1', 'localhost', ...own.filter((address) => !address.includes(':'))].join(' ');
    const each = (command: string) => `for host in ${hosts}; do ${command}; done 2>&1`;
    const url = `http://$host:${port}/`;
    const { printed } = await runInJail(service, {
      direct: each(`curl -sS -m 3 --noproxy '*' ${url}; (exec 3<>/dev/tcp/$host/${port}) && echo CONNECTED`),
      proxied: each(`for proxy in "$HTTP_PROXY" "$ALL_PROXY"; do curl -m 3 --noproxy '' -x "$proxy" ${url}; done`),
      packets: each(`echo hello > /dev/udp/$host/${udp.address().port}`),
      abstract: `socat -T2 - ABSTRACT-CONNECT:sallyport-test-${process.pid} </dev/null`,
      world: `curl -m 3 http://1.1.1.1/; getent hosts example.com`,
      interfaces: `tail -n +3 /proc/net/dev | cut -d: -f1`,
    });
    assert.doesNotMatch(printed['direct']!, /CONNECTED/u);
    assert.match(printed['interfaces']!, /^\s*lo\n/u);
    const web = { id: 'web', name: 'WebFetch', input: { url: `http://127.0.0.1:${port}/`, prompt: 'x' } };
    assert.equal((await play(service, [{ tools: [web] }], strict)).returned('web').isError, true);
    assert.deepEqual([tcp.connections(), abstract.connections(), packets], [0, 0, 0]);
    // The listeners do listen.
    await Promise.all([
      once(connect(port, '127.0.0.1'), 'connect'),
      once(connect(`\0sallyport-test-${process.pid}`), 'connect'),
    ]);
  });

  test('no process of the host can be seen or signalled', async (t) => {
    const seconds = sleepSeconds();
    const neighbour = spawn('sleep', [seconds], { env: { NEIGHBOUR: canary } });
    t.after(() => neighbour.kill('SIGKILL'));
    const pids = `${neighbour.pid} ${process.pid} ${process.ppid}`;
    const { printed } = await runInJail(service, {
      list: `ps -eo args; cat /proc/[0-9]*/cmdline | tr '\\0' ' '`,
      kill: `for pid in ${pids}; do kill -9 $pid; cat /proc/$pid/environ; done 2>&1 | tr '\\0' '\\n'`,
      escape: `unshare -Ur true && echo ESCAPED; nsenter -t 1 -m true && echo ESCAPED; head -c 100 /dev/mem /dev/kmsg`,
    });
    assert.doesNotMatch(printed['list']!, new RegExp(`${seconds}|\\bnode\\b`, 'u'));
    assert.doesNotMatch(JSON.stringify(printed), new RegExp(`ESCAPED|${canary}`, 'u'));
    // A command that kills all it can ends itself alone: the run goes on.
    const steps = [commandStep('rage', 'kill -9 -1'), commandStep('next', 'true')];
    printedBy(await play(service, steps, strict), ['next']);
    assert.equal(neighbour.exitCode, null);
    assert.equal(neighbour.signalCode, null);
    assert.equal((await fetch(`${service.url}/livez`)).status, 200);
  });

  test('Claude Code itself has namespaces of its own, and no capability', async () => {
    const kinds = ['ipc', 'mnt', 'net', 'pid', 'user', 'uts'];
    const namespaces = (pid: number) => Promise.all(kinds.map((kind) => readlink(`/proc/${pid}/ns/${kind}`)));
    let inside: string[] = [];
    let status = '';
    const brain: Brain = async () => {
      const pid = await claudeInJail(service);
      inside = await namespaces(pid);
      status = await readFile(`/proc/${pid}/status`, 'utf8');
      return { text: 'Done.' };
    };
    await play(service, brain, { ...strict, allowed_tools: ['Read'] });
    const outside = await namespaces(process.pid);
    assert.equal(inside.length, kinds.length);
    assert.deepEqual(
      kinds.filter((_, index) => inside[index] === outside[index]),
      [],
    );
    for (const set of ['CapPrm', 'CapEff', 'CapInh', 'CapAmb'])
      assert.match(status, new RegExp(`^${set}:\\s+0+$`, 'mu'));
    assert.match(status, /^NoNewPrivs:\s+1$/mu);
    if (isRoot) assert.doesNotMatch(status, /^Uid:.*\s0\b/mu);
  });

  test('no secret is in the environment, in arguments, in memory or in files', async () => {
    const environments = String.raw`for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do cat $file | tr '\0' '\n'; done`;
    // The patterns are written so that they do not find this command itself in Claude Code's transcript.
    const files = String.raw`grep -rsl 'sallyport-ru[n]-\|sk-an[t]-' /tmp /workspace /etc /.sallyport/broker`;
    const steps: Step[] = [
      commandStep('environment', `env; ${environments}`),
      commandStep('unboxed', `env; ${environments}`, { dangerouslyDisableSandbox: true }),
      commandStep('files', `${files}; cat /proc/1/mem 2>/dev/null | head -c 100`),
    ];
    let token = '';
    const brain: Brain = async (_request, { call }) => {
      if (call === 0) token = await tokenOfRun();
      return steps[call] ?? { text: 'Done.' };
    };
    const played = await play(service, brain, strict);
    const printed = printedBy(played, ['environment', 'unboxed', 'files']);
    assert.match(token, /^sallyport-run-\S{20,}$/u);
    assert.match(printed['environment']!, /^ANTHROPIC_BASE_URL=http:\/\/localhost$/mu);
    assert.equal(printed['files'], ran);
    for (const secret of [canary, upstreamKey, masterKey, userKey, token, 'SECRET_CANARY', service.simulator.url]) {
      assert.ok(!JSON.stringify(printed).includes(secret), secret);
    }
    assert.doesNotMatch(
      JSON.stringify(printed),
      /ANTHROPIC_API_KEY|MESSAGING_TOKEN|CLAUDE_API_|SALLYPORT_(?!PROCESS)/u,
    );
  });

  test('a command cannot talk to the broker', async () => {
    const asked = service.simulator.requests.length;
    const connects = [
      `printf 'POST /v1/messages HTTP/1.0\\r\\n\\r\\n' | socat -T3 - UNIX-CONNECT:${brokerSocket}`,
      `curl -sS -m 3 --unix-socket ${brokerSocket} http://localhost/v1/messages -d '{}'`,
      `python3 -c "import socket; s=socket.socket(socket.AF_UNIX); s.connect('${brokerSocket}'); print('CONNECTED')"`,
      `perl -e 'use IO::Socket::UNIX; IO::Socket::UNIX->new(Peer=>"${brokerSocket}") and print "CONNECTED"'`,
      `ANTHROPIC_API_KEY=x /.sallyport/claude -p hello`,
    ].join('; ');
    const tampers = [
      `ls ${brokerSocket}`,
      `rm -f ${brokerSocket}`,
      `ln -sf /tmp/x ${brokerSocket}`,
      'mv /.sallyport/broker /x',
    ];
    const steps: Step[] = [
      commandStep('boxed', `(${connects}) 2>&1`),
      commandStep('unboxed', `(${connects}) 2>&1`, { dangerouslyDisableSandbox: true }),
      commandStep('tampered', tampers.join('; ')),
    ];
    const printed = printedBy(await play(service, steps, strict), ['boxed', 'unboxed', 'tampered']);
    assert.doesNotMatch(JSON.stringify(printed), /CONNECTED|HTTP\/1|"type": ?\\"error/u);
    assert.match(printed['boxed']!, /Operation not permitted/u);
    assert.match(printed['unboxed']!, /Operation not permitted/u);
    assert.equal(service.simulator.requests.length - asked, steps.length + 1);
  });
});

async function listen(t: TestContext, where: ListenOptions): Promise<{ server: Server; connections(): number }> {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.destroy();
  }).listen(where);
  t.after(() => server.close());
  await once(server, 'listening');
  return { server, connections: () => connections };
}

/** What the process of the only run holds to call the broker. */
async function tokenOfRun(): Promise<string> {
  const environment = await readFile(`/proc/${await claudeInJail(service)}/environ`, 'utf8');
  return /(?:^|\0)ANTHROPIC_API_KEY=([^\0]*)/u.exec(environment)?.[1] ?? '';
}
