import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { defaultBounds, errorBody } from '@sallyport/protocol';
import { query, startService, type TestService } from '../support/service.ts';

let base: string;
let service: TestService;
before(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'sp-input-')));
  await chmod(base, 0o755);
  await mkdir(join(base, 'roots'));
  // The service's own directories are inside the root, as a careless operator may have it.
  service = await startService({
    env: {
      SALLYPORT_WORKSPACE_ROOTS: join(base, 'roots'),
      SALLYPORT_DATA_DIR: join(base, 'roots/data'),
      SALLYPORT_RUN_DIR: join(base, 'roots/run'),
    },
  });
});
after(async () => {
  await service.close();
  await rm(base, { recursive: true });
});

const { promptChars, systemPromptChars, maxTurns, timeoutMinSeconds, timeoutMaxSeconds, files, filesBytes } =
  defaultBounds;
const file = (content: unknown = '', path: unknown = 'a') => ({ path, content });
const schemaOf = (chars: number) => {
  const bare = JSON.stringify({ type: 'object', title: '' }).length;
  return { type: 'object', title: 'x'.repeat(chars - bare) };
};
const labels = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, 'v']));

/** Values of each field: those that are taken, and those that are not. */
const fields: Readonly<Record<string, { good: readonly unknown[]; bad: readonly unknown[] }>> = {
  prompt: {
    good: ['x', 'x'.repeat(promptChars), '🎈'.repeat(promptChars), '\0\u001b[31m', '--help'],
    bad: [undefined, null, '', 'x'.repeat(promptChars + 1), '🎈'.repeat(promptChars + 1), '\ud800', 1, ['x'], {}],
  },
  max_turns: { good: [1, maxTurns], bad: [0, maxTurns + 1, -1, 1.5, '3', true, null, 1e300, [3]] },
  system_prompt: {
    good: [null, '', 'x'.repeat(systemPromptChars), '--settings={}'],
    bad: ['x'.repeat(systemPromptChars + 1), 1, ['x'], '\udc00x'],
  },
  permission_mode: {
    good: ['askForEdits', 'acceptEdits', 'readOnly', 'strict'],
    bad: ['bypassPermissions', 'default', 'plan', 'READONLY', '', null, 1, ['strict'], 'constructor', '__proto__'],
  },
  allowed_tools: {
    good: [null, [], ['LS'], ['Read', 'Grep', 'LS'], ['Bash', 'WebFetch', 'WebSearch'], Array(50).fill('Read')],
    bad: [
      ['Task'],
      ['Nope'],
      ['read'],
      ['Bash(rm:*)'],
      ['mcp__x__y'],
      ['*'],
      [''],
      [null],
      [1],
      'Read',
      {},
      ['toString'],
      Array(51).fill('Read'),
    ],
  },
  timeout: {
    good: [timeoutMinSeconds, timeoutMaxSeconds],
    bad: [timeoutMinSeconds - 1, timeoutMaxSeconds + 1, 0, -60, 10.5, '60', null, true],
  },
  effort: { good: [null, 'low', 'medium', 'high'], bad: ['max', '', 1, true, ['low']] },
  output_schema: {
    good: [null, { type: 'object' }, schemaOf(100_000)],
    bad: ['{}', [], 1, true, schemaOf(100_001), { type: 'object', title: '漢'.repeat(34_000) }],
  },
  files: {
    good: [
      null,
      [],
      [file('x'), file('y', 'b/c/d.txt'), file('', '--flag'), file('', 'ünï 🎈.txt'), file('', '...')],
      Array.from({ length: files }, (_, index) => file('', `f${index}`)),
      [file('x'.repeat(filesBytes))],
      [file('', Array.from({ length: 16 }, () => 'x'.repeat(255)).join('/'))],
    ],
    bad: [
      [file('', 'x'.repeat(256))],
      [file('', `a/${'漢'.repeat(86)}`)],
      [file('', 'a/b'), file('', 'a')],
      Array.from({ length: files + 1 }, (_, index) => file('', `f${index}`)),
      [file('x'.repeat(filesBytes + 1))],
      [file('ü'.repeat(filesBytes / 2)), file('x', 'b')],
      [file(), file()],
      ...[
        '',
        '/etc/passwd',
        '..',
        '../a',
        'a/../b',
        'a/..',
        './a',
        'a//b',
        'a/',
        '/',
        '.',
        'a\0b',
        'a\nb',
        '\ud800',
        1,
        null,
        'x'.repeat(4097),
      ].map((path) => [file('', path)]),
      ...[null, 1, {}, '\ud800'].map((content) => [file(content)]),
      [{ path: 'a' }],
      [{ ...file(), mode: 0o777 }],
      [null],
      file(),
      'a',
    ],
  },
  max_budget_usd: { good: [null, 1e-9, 10_000], bad: [0, -1, 10_000.01, '1', true, 1e308, [1]] },
  cache: { good: ['bypass', 'auto', 'refresh'], bad: ['', 'none', true, null] },
  instructions: { good: [true, false], bad: ['true', 1, null] },
  metadata: {
    good: [null, {}, labels(50), { ['k'.repeat(100)]: 'v'.repeat(1000) }, { schlüssel: '🎈', constructor: 'x' }],
    bad: [labels(51), { ['k'.repeat(101)]: '' }, { k: 'v'.repeat(1001) }, { k: 1 }, { k: null }, { k: {} }, [], 'x'],
  },
};

const shown = (value: unknown) => JSON.stringify(value)?.slice(0, 40) ?? 'nothing';

describe('each field', () => {
  for (const [field, { good, bad }] of Object.entries(fields)) {
    test(`${field} is taken up to its bounds`, async () => {
      for (const value of good) {
        // A model nobody may use is refused after the fields were found right, and before anything runs.
        const { status, body } = await query(service, { prompt: 'x', model: 'nobody', [field]: value });
        assert.deepEqual([status, body['code']], [403, 'model_not_allowed'], `${shown(value)}: ${shown(body)}`);
      }
    });

    test(`${field} is refused beyond them, and for the wrong type`, async () => {
      for (const value of bad) {
        const { status, body } = await query(service, { prompt: 'x', [field]: value });
        assert.deepEqual([status, body['code']], [422, 'validation_failed'], `${shown(value)}: ${shown(body)}`);
        const { detail, retryable } = errorBody.parse(body);
        assert.ok(Array.isArray(detail) && detail.length > 0);
        for (const { loc } of detail) assert.deepEqual(loc.slice(0, 2), ['body', field]);
        assert.equal(retryable, false);
        assert.ok(JSON.stringify(body).length < 2000);
      }
    });
  }

  test('model is refused where it cannot be one', async () => {
    const { body } = await query(service, { prompt: 'x', model: 'm'.repeat(200) });
    assert.equal(body['code'], 'model_not_allowed');
    assert.equal((await query(service, { prompt: 'x', model: '--help' })).body['code'], 'model_not_allowed');
    for (const model of ['', 'm'.repeat(201), 'a\nb', 1, ['x']]) {
      assert.equal((await query(service, { prompt: 'x', model })).body['code'], 'validation_failed', shown(model));
    }
  });

  test('that is not known is refused', async () => {
    for (const field of [
      'api_base',
      'env',
      'cwd',
      'prömpt',
      'Prompt',
      'options',
      'toString',
      '',
      '🎈',
      'mcp_servers',
    ]) {
      const { status, body } = await query(service, { prompt: 'x', [field]: 'x' });
      assert.deepEqual(
        [status, body['detail'][0].loc, body['detail'][0].type],
        [422, ['body', field], 'extra_forbidden'],
      );
    }
  });
});

describe('project_path', () => {
  const refused = async (project_path: unknown, status: number, code: string) => {
    const { status: given, body } = await query(service, { prompt: 'x', permission_mode: 'readOnly', project_path });
    assert.deepEqual([given, body['code']], [status, code], shown(project_path));
    assert.ok(!JSON.stringify(body).includes(base));
  };

  test('outside the roots, or not a directory, is refused', async () => {
    const roots = join(base, 'roots');
    await mkdir(join(base, 'roots-beside'));
    await mkdir(join(roots, 'sub'));
    await writeFile(join(roots, 'file.txt'), '');
    await symlink('/etc', join(roots, 'etc'));
    await symlink('../../..', join(roots, 'up'));
    await symlink('loop', join(roots, 'loop'));
    await symlink(join(base, 'roots-beside'), join(roots, 'beside'));
    const outside = [
      '/',
      '/etc',
      '/tmp',
      '/proc/self/root',
      '/dev',
      base,
      `${roots}-beside`,
      '.',
      'sub',
      '~',
      '--settings={}',
    ];
    const ways = [
      '..',
      'sub/../..',
      'etc',
      'up',
      'up/etc',
      'loop',
      'beside',
      'file.txt',
      'file.txt/x',
      'nothing',
      'x'.repeat(300),
    ];
    for (const path of [...outside, ...ways.map((way) => `${roots}/${way}`)])
      await refused(path, 403, 'path_not_allowed');
  });

  test('that is one of the service itself is refused', async () => {
    const { dataDir, runDir } = service.sallyport.settings;
    await symlink(dataDir, join(base, 'roots/innocent'));
    for (const path of [dataDir, runDir, join(runDir, 'jails'), join(runDir, 'broker'), join(base, 'roots/innocent')]) {
      await refused(path, 403, 'path_not_allowed');
    }
  });

  test('that is no path is refused', async () => {
    for (const path of ['a\0b', '/tmp/\n', '\u001b', 1, ['/tmp'], {}, '\ud800', `/${'x'.repeat(4096)}`]) {
      await refused(path, 422, 'validation_failed');
    }
    const { body } = await query(service, { prompt: 'x', project_path: join(base, 'roots'), files: [file()] });
    assert.deepEqual(body['detail'][0].loc, ['body', 'files']);
  });
});

test('nothing of all that was run', () => {
  assert.deepEqual(service.sallyport.processes(), []);
  assert.deepEqual(service.simulator.requests, []);
});

test('and the next query works', async () => {
  const { body } = await query(service, { prompt: 'Hello?', timeout: 300 });
  assert.equal(body['success'], true);
});
