import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { Brain } from '@sallyport/simulator';
import { call } from '../support/approvals.ts';
import { onGrounds, type Grounds } from '../support/canaries.ts';
import { leftOut } from '../support/needs.ts';
import { hostilePaths, layTraps, longPaths, slotBeside, trappedProject, type Start } from '../support/paths.ts';
import { userKey, type TestService } from '../support/service.ts';
import { edit, next, read, start, steps } from '../support/workspaces.ts';

let service: TestService;
let grounds: Grounds;

/** Sends the bytes of a request for a file as they are. */
async function rawGet(path: string): Promise<{ status: number; body: string }> {
  const { hostname: host, port } = new URL(service.url);
  const socket = connect(Number(port), host);
  const head = `GET ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\nAuthorization: Bearer ${userKey}\r\nConnection: close\r\n\r\n`;
  socket.write(head);
  const [body] = await Promise.all([text(socket), once(socket, 'close')]);
  return { status: Number(/^HTTP\/1\.1 (\d+)/u.exec(body)?.[1]), body };
}

/** The same path as different clients would send it. */
const encodings: Readonly<Record<string, (path: string) => string>> = {
  bare: (path) => path,
  parts: (path) => path.split('/').map(encodeURIComponent).join('/'),
  whole: encodeURIComponent,
  twice: (path) => encodeURIComponent(encodeURIComponent(path)),
};

/** Names and contents of an archive, and what another program makes when it unpacks it. */
async function unpacked(archive: Buffer): Promise<{ names: string[]; contents: string; made: string[] }> {
  const directory = await mkdtemp(join(tmpdir(), 'sp-zip-'));
  const script = `import io,json,sys,zipfile
z=zipfile.ZipFile(sys.argv[1]); z.extractall(sys.argv[2])
print(json.dumps([z.namelist(), [z.read(n).decode('utf8','replace') for n in z.namelist()]]))`;
  try {
    await writeFile(join(directory, 'a.zip'), archive);
    await mkdir(join(directory, 'a/b'), { recursive: true });
    const args = ['-c', script, join(directory, 'a.zip'), join(directory, 'a/b/c')];
    const { stdout } = await promisify(execFile)('python3', args);
    const [names, contents] = JSON.parse(stdout) as [string[], string[]];
    const made = await Promise.all(['', 'a', 'a/b'].map((each) => readdir(join(directory, each))));
    return { names, contents: contents.join('\n'), made: made.flat() };
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function archiveOf(id: string): Promise<Buffer> {
  const response = await fetch(`${service.url}/api/claude/conversation/${id}/files.zip`, {
    headers: { authorization: `Bearer ${userKey}` },
  });
  assert.equal(response.status, 200);
  return Buffer.from(await response.arrayBuffer());
}

describe('files of a workspace that lead out of it', { skip: leftOut('jail', ['bwrap', 'socat', 'python3']) }, () => {
  onGrounds((made) => ({ service, grounds } = made));

  test('no file outside is given, whatever the address looks like', async () => {
    const project = await trappedProject(service, grounds, 'raw');
    await start(service, 'raw', [{ text: 'Hi.' }], { project_path: project.at });
    const before = service.sallyport.processes().map(({ id }) => id);
    service.simulator.play(async () => {
      const disk = slotBeside(service, before);
      await writeFile(join(disk, 'in.txt'), 'inside-of-it\n');
      await layTraps({ at: '/workspace', disk, outsides: grounds.outsides });
      return { text: 'Done.' };
    });
    const { body } = await call(service, 'POST', 'conversation/start?session_id=raw-slot', { prompt: 'Hi.' });
    assert.equal(body['success'], true, JSON.stringify(body));
    for (const [id, at] of Object.entries({ raw: project, 'raw-slot': { ...project, at: '/workspace' } })) {
      assert.match((await rawGet(`/api/claude/conversation/${id}/files/in.txt`)).body, /inside/u);
      const paths = [...hostilePaths(at), ...longPaths(at)].flatMap(({ file, directory }) => [
        file,
        directory,
        file.replace(`${at.at}/`, ''),
        directory.replace(`${at.at}/`, ''),
      ]);
      for (const path of new Set(paths)) {
        for (const [how, encode] of Object.entries(encodings)) {
          const answer = await rawGet(`/api/claude/conversation/${id}/files/${encode(path)}`);
          grounds.assertNoneIn(answer.body, `${how}: ${path.slice(0, 300)}`);
          assert.ok(answer.status >= 400 && answer.status < 500, `${how}: ${path.slice(0, 300)}: ${answer.body}`);
        }
      }
      const { names, contents } = await unpacked(await archiveOf(id));
      assert.deepEqual(names.toSorted(), id === 'raw' ? ['in.txt', 'inner/deep.txt'] : ['in.txt']);
      grounds.assertNoneIn(contents, 'archive');
    }
    await grounds.assertUntouched();
  });

  test('an archive unpacks where it is unpacked, whatever its files are called', async () => {
    const at: Start = { at: '/workspace', disk: '/workspace', outsides: grounds.outsides };
    const names = hostilePaths(at)
      .flatMap(({ file, leaves }) => (leaves ? [] : [file.replaceAll('/', '\\'), file.split('/').at(-1) ?? '']))
      .concat('..\\x', '\\x', 'C:x', 'C:\\x', '.. ', ' ..', '~', '-rf', '\u202ex', 'a\nb', '...', '\\\\host\\x')
      .filter((name) => name !== '' && name !== '.' && !name.includes('\0') && Buffer.byteLength(name) < 250);
    const files = Object.fromEntries(names.map((name) => [name, 'named']));
    const project = await trappedProject(service, grounds, 'named', files);
    await start(service, 'named', [{ text: 'Hi.' }], { project_path: project.at });
    const found = await unpacked(await archiveOf('named'));
    assert.ok(found.names.length > names.length / 2, `${found.names.length}`);
    assert.deepEqual(
      found.names.filter((name) => /^\/|\\|^[A-Za-z]:/u.test(name) || name.split('/').includes('..')),
      [],
    );
    assert.deepEqual(found.made.toSorted(), ['a', 'a.zip', 'b', 'c']);
    grounds.assertNoneIn(found.names.join('\n') + found.contents, 'archive');
  });

  test('what a run edited and what was then put in its place is told without what is outside', async () => {
    const project = await trappedProject(service, grounds, 'changed', {
      'inner/secret.txt': 'one\n',
      'secret.txt': 'one\n',
    });
    const [beside] = grounds.outsides;
    const paths = ['inner/secret.txt', 'secret.txt'].map((path) => join(project.at, path));
    const turn = steps(...paths.flatMap((path) => [read(path), edit(path, 'one', 'two')]));
    const swap = async () => {
      await rename(join(project.at, 'inner'), join(project.at, 'away'));
      await symlink(beside?.directory ?? '', join(project.at, 'inner'));
      await rm(join(project.at, 'secret.txt'));
      await symlink(join(beside?.directory ?? '', 'secret.txt'), join(project.at, 'secret.txt'));
    };
    const brain: Brain = async (_request, { call: number }) => {
      if (number === turn.length - 1) await swap();
      return turn[number] ?? { text: 'Done.' };
    };
    service.simulator.play(brain);
    const body = { prompt: 'Edit.', project_path: project.at, permission_mode: 'acceptEdits', max_turns: 10 };
    const first = await call(service, 'POST', 'conversation/start?session_id=changed', body);
    assert.equal(first.body['success'], true, JSON.stringify(first.body));
    assert.ok((await readFile(join(project.at, 'inner/secret.txt'), 'utf8')).includes(grounds.canary));
    const told = async () =>
      await Promise.all(
        ['diff', 'files', 'messages'].map((each) => call(service, 'GET', `conversation/changed/${each}`)),
      );
    grounds.assertNoneIn(JSON.stringify([first, await told()]), 'first turn');
    await next(service, 'changed', steps(read(paths[0] ?? ''), edit(paths[1] ?? '', 'two', 'three')));
    grounds.assertNoneIn(JSON.stringify(await told()), 'second turn');
    for (const path of ['inner/secret.txt', 'secret.txt']) {
      assert.equal((await rawGet(`/api/claude/conversation/changed/files/${path}`)).status, 404);
    }
    grounds.assertNoneIn((await unpacked(await archiveOf('changed'))).contents, 'archive');
    await grounds.assertUntouched();
  });
});
