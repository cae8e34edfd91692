import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { call } from '../support/approvals.ts';
import { giveToProjectUser, makeProject } from '../support/commands.ts';
import { scripted } from '../support/runs.ts';
import { masterKey, startService, userKey, type TestService } from '../support/service.ts';
import { next, start, steps, write } from '../support/workspaces.ts';

type Body = Record<string, any>;

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

const odd = [
  'dir/deep/er/f.txt',
  'sp ace.txt',
  'ümläut 😀.txt',
  '%41.txt',
  'a+b&c=d?e#f.txt',
  'quo\'te".txt',
  '-dash',
  '.hidden',
  'new\nline.txt',
  'back\\slash',
  '...',
];
const contentOf = (name: string) => `content of ${name}`;

async function get(path: string, key = userKey) {
  const response = await fetch(`${service.url}/api/claude/conversation/${path}`, {
    headers: { authorization: `Bearer ${key}` },
  });
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
}

const pathOf = (name: string) => name.split('/').map(encodeURIComponent).join('/');

/** The files of an archive, read by another program than the one that made it. */
async function unzipped(bytes: Buffer): Promise<Record<string, string>> {
  const directory = await mkdtemp(join(tmpdir(), 'sp-zip-'));
  try {
    const file = join(directory, 'a.zip');
    await writeFile(file, bytes);
    const script =
      'import json,sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print(json.dumps({n: z.read(n).decode() for n in z.namelist()}))';
    const { stdout } = await promisify(execFile)('python3', ['-c', script, file]);
    return JSON.parse(stdout) as Record<string, string>;
  } finally {
    await rm(directory, { recursive: true });
  }
}

describe('the files of a workspace', () => {
  test('of a slot and of a project are listed and given, whatever their names', async () => {
    const given = odd.filter((name) => !/^[.]+$|\n/u.test(name));
    const files = given.map((path) => ({ path, content: contentOf(path) }));
    const project_path = await makeProject(
      service,
      'files',
      Object.fromEntries(odd.map((name) => [name, contentOf(name)])),
    );
    const accepted = await call(service, 'POST', 'conversation/start?session_id=slot', {
      prompt: scripted([{ text: 'Hi.' }]),
      files,
    });
    assert.equal(accepted.status, 200, JSON.stringify(accepted.body));
    await start(service, 'project', [{ text: 'Hi.' }], { project_path });
    for (const [id, names] of Object.entries({ slot: given, project: odd })) {
      const { body } = await call(service, 'GET', `conversation/${id}/files`);
      const listed = Object.fromEntries((body['items'] as Body[]).map(({ path, size }) => [path, size]));
      assert.deepEqual(listed, Object.fromEntries(names.map((name) => [name, Buffer.byteLength(contentOf(name))])));
      for (const name of names) {
        const { status, headers, bytes } = await get(`${id}/files/${pathOf(name)}`);
        // A name with a control character cannot be asked for; the archive has it.
        if (name.includes('\n')) {
          assert.equal(status, 422);
          continue;
        }
        assert.deepEqual([status, bytes.toString()], [200, contentOf(name)], name);
        assert.match(headers.get('content-disposition') ?? '', /^attachment;/u);
        assert.equal(headers.get('x-content-type-options'), 'nosniff');
      }
      const archive = await get(`${id}/files.zip`);
      assert.equal(archive.status, 200);
      const unpacked = await unzipped(archive.bytes);
      assert.deepEqual(
        unpacked,
        Object.fromEntries(names.map((name) => [name.replaceAll('\\', '_'), contentOf(name)])),
      );
    }
  });

  test('are as the last turn left them', async () => {
    await start(service, 'latest', steps(write('/workspace/a.txt', 'first')));
    await next(service, 'latest', steps(write('/workspace/a.txt', 'second'), write('/workspace/b/c.txt', 'c')));
    assert.deepEqual(await unzipped((await get('latest/files.zip')).bytes), { 'a.txt': 'second', 'b/c.txt': 'c' });
    const none = await call(service, 'POST', 'conversation/start?session_id=none', {
      prompt: scripted([{ text: 'Hi.' }]),
    });
    assert.equal(none.status, 200);
    assert.deepEqual((await call(service, 'GET', 'conversation/none/files')).body['items'], []);
    assert.deepEqual(await unzipped((await get('none/files.zip')).bytes), {});
  });

  test('end where the workspace ends', async () => {
    const secret = 'secret-outside-of-the-project';
    await writeFile(join(service.root, 'outside.txt'), secret);
    await mkdir(join(service.root, 'other'));
    await writeFile(join(service.root, 'other', 'outside.txt'), secret);
    const project_path = await makeProject(service, 'walled', { 'in.txt': 'inside', 'dir/in.txt': 'inside' });
    await symlink('../outside.txt', join(project_path, 'link.txt'));
    await symlink('/etc/passwd', join(project_path, 'passwd'));
    await symlink('../other', join(project_path, 'other'));
    await symlink('in.txt', join(project_path, 'inner'));
    await giveToProjectUser(project_path);
    await start(service, 'walled', [{ text: 'Hi.' }], { project_path });
    const bad = [
      '../outside.txt',
      '..%2foutside.txt',
      '%2e%2e/outside.txt',
      '%2e%2e%2foutside.txt',
      'dir/../../outside.txt',
      'dir%2f..%2f..%2foutside.txt',
      '..%5coutside.txt',
      '/etc/passwd',
      '%2fetc%2fpasswd',
      '//etc/passwd',
      'in.txt%00',
      '%00',
      'in.txt%00.png',
      'dir',
      'dir/',
      '.',
      '',
      'dir/./in.txt',
      './in.txt',
      'in.txt/',
      'in.txt/x',
      'link.txt',
      'passwd',
      'other/outside.txt',
      'other',
      'inner',
      'none.txt',
      '%',
      '%ff',
      '..%c0%af..%c0%afetc/passwd',
      `${'x/'.repeat(200)}y`,
      `${service.root}/outside.txt`,
      'x'.repeat(5000),
    ];
    for (const path of bad) {
      const { status, text } = await rawGet(`/api/claude/conversation/walled/files/${path}`);
      assert.ok([400, 404, 414, 422, 431].includes(status), `${path}: ${status}`);
      assert.ok(!text.includes(secret) && !text.includes('root:') && text !== 'inside', `${path}: ${text}`);
    }
    const { body } = await call(service, 'GET', 'conversation/walled/files');
    assert.deepEqual(
      (body['items'] as Body[]).map(({ path }) => path),
      ['dir/in.txt', 'in.txt'],
    );
    assert.deepEqual(await unzipped((await get('walled/files.zip')).bytes), {
      'dir/in.txt': 'inside',
      'in.txt': 'inside',
    });
    assert.equal(await readFile(join(service.root, 'outside.txt'), 'utf8'), secret);
  });

  test("of another key's conversation are not there", async () => {
    const body = { prompt: scripted([{ text: 'Mine.' }]), files: [{ path: 'mine.txt', content: 'mine' }] };
    assert.equal((await call(service, 'POST', 'conversation/start?session_id=admins', body, masterKey)).status, 200);
    for (const path of ['files', 'files/mine.txt', 'files.zip', 'diff']) {
      const [answer, unknown] = [await get(`admins/${path}`), await get(`never-was/${path}`)];
      const said = ({ bytes }: typeof answer): Body => ({ ...JSON.parse(bytes.toString()), request_id: '' });
      assert.equal(answer.status, 404, path);
      assert.deepEqual(said(answer), said(unknown));
      assert.equal(said(answer)['code'], 'conversation_not_found');
      assert.equal((await get(`admins/${path}`, masterKey)).status, 200, path);
    }
  });
});

/** Sends the path as it is: `fetch` would put it in order. */
function rawGet(path: string): Promise<{ status: number; text: string }> {
  const { hostname: host, port } = new URL(service.url);
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const request = httpRequest({ host, port, path, headers: { authorization: `Bearer ${userKey}` } }, (response) => {
    let text = '';
    response.on('data', (chunk: Buffer) => (text += chunk.toString()));
    response.once('end', () => resolve({ status: response.statusCode ?? 0, text }));
  });
  request.once('error', reject).end();
  return promise;
}
