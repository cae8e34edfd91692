import { deepStrictEqual, match, strictEqual } from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { aDirectory } from '../testing/directory.ts';
import { load, refused } from '../testing/settings.ts';
import { settingKeys, table } from './table.ts';

test('flags win over secrets in files, those over the environment, and that over the config file', (t) => {
  const directory = aDirectory(t);
  const config = join(directory, 'config.json');
  writeFileSync(
    config,
    JSON.stringify({ port: 1, maxWaiting: 1, drainSeconds: 1, corsOrigins: ['http://a', 'http://b'] }),
  );
  const keyFile = join(directory, 'key');
  writeFileSync(keyFile, 'from-a-file-0000000\n');
  const settings = load(
    {
      SALLYPORT_PORT: '2',
      SALLYPORT_MAX_WAITING: '2',
      CLAUDE_API_KEY_1: 'from-the-environment',
      CLAUDE_API_KEY_1_FILE: keyFile,
    },
    { argv: ['--config', config, '--port=3'] },
  );
  deepStrictEqual([settings.port, settings.maxWaiting, settings.drainSeconds], [3, 2, 1]);
  deepStrictEqual(settings.corsOrigins, ['http://a', 'http://b']);
  deepStrictEqual(settings.userKeys, [{ name: 'key-1', secret: 'from-a-file-0000000' }]);
  const { port, maxWaiting, drainSeconds, key1, host } = settings.sources;
  deepStrictEqual(
    [port, maxWaiting, drainSeconds, key1, host],
    ['flag', 'environment', 'config file', 'secret file', 'default'],
  );
});

test('every flag but those of secrets is taken', () => {
  for (const key of settingKeys) {
    if (table[key].secret) continue;
    const flag = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    const values: Record<string, string> = {
      runDir: '/tmp/x',
      defaultModel: 'sallyport-simulator',
      models: 'sallyport-simulator',
    };
    const value =
      values[key] ?? table[key].default ?? { upstream: 'simulator', workspaceRoots: '/', prices: 'x' }[key as string];
    strictEqual(
      load({}, { argv: [flag, value ?? '1000000'.slice(0, key === 'maxProcesses' ? 2 : 7)] }).sources[key],
      'flag',
    );
  }
});

test('a secret file is read without its end of line, and only for secrets', (t) => {
  const directory = aDirectory(t);
  writeFileSync(join(directory, 'key'), '0123456789abcdef\r\n');
  writeFileSync(join(directory, 'empty'), '\n');
  writeFileSync(join(directory, 'port'), '9000');
  strictEqual(load({ CLAUDE_API_MASTER_KEY_FILE: 'key' }, { cwd: directory }).masterKey, '0123456789abcdef');
  match(
    refused(() => load({ CLAUDE_API_MASTER_KEY_FILE: '/no/such' })),
    /^CLAUDE_API_MASTER_KEY_FILE is "\/no\/such", which cannot be read \(ENOENT\)$/,
  );
  match(
    refused(() => load({ CLAUDE_API_KEY_1_FILE: join(directory, 'empty') })),
    /, which is empty$/,
  );
  const settings = load({ SALLYPORT_PORT_FILE: join(directory, 'port'), UNRELATED_FILE: '/no/such' });
  strictEqual(settings.port, 8000);
  deepStrictEqual(settings.warnings, ['SALLYPORT_PORT_FILE is not a setting and has no effect']);
});

test('the config file is checked like everything else', (t) => {
  const file = join(aDirectory(t), 'c.json');
  const withFile = (content: string) => {
    writeFileSync(file, content);
    return load({}, { argv: ['--config', file] });
  };
  strictEqual(withFile('{"port": 9000, "host": null}').port, 9000);
  deepStrictEqual(withFile('{"models": ["sallyport-simulator", "b"]}').models, ['sallyport-simulator', 'b']);
  match(
    refused(() => withFile('{"port": "x"}')),
    /^"port" in .*c\.json is "x"; it must be a whole number/,
  );
  match(
    refused(() => withFile('{"port": [1]}')),
    /^"port" in .*c\.json must be a whole number/,
  );
  match(
    refused(() => withFile('{"models": ["a,b"]}')),
    /^"models" in .*c\.json must be names of models/,
  );
  match(
    refused(() => withFile('{"prot": 1}')),
    /^"prot" in .*c\.json is not a setting; did you mean port\?$/,
  );
  match(
    refused(() => withFile('{"__proto__": {"port": 1}}')),
    /^"__proto__" in .* is not a setting$/,
  );
  match(
    refused(() => withFile('{"port": ')),
    /^the config file .*c\.json is not JSON$/,
  );
  match(
    refused(() => withFile('[]')),
    /^the config file .*c\.json must hold one JSON object$/,
  );
  match(
    refused(() => load({}, { argv: ['--config', '/no/such'] })),
    /^the config file \/no\/such cannot be read \(ENOENT\)$/,
  );
});

test('a flag that is not one is refused', () => {
  match(
    refused(() => load({}, { argv: ['--prot', '1'] })),
    /^--prot is not a flag; did you mean --port\?$/,
  );
  match(
    refused(() => load({}, { argv: ['--port'] })),
    /^--port needs a value$/,
  );
  match(
    refused(() => load({}, { argv: ['8001'] })),
    /^"8001" is not a flag$/,
  );
  match(
    refused(() => load({}, { argv: ['-p', '1'] })),
    /^-p is not a flag/,
  );
  match(
    refused(() => load({}, { argv: ['--port', 'x'] })),
    /^--port is "x"; it must be /,
  );
});

test('a variable nobody knows is a warning that names the one that was meant', () => {
  const { warnings } = load({
    SALLYPORT_PROT: '1',
    CLAUDE_API_KEY_6: 'x',
    SALLYPORT_SOMETHING_ELSE: 'x',
    CLAUDE_API_KEY_1_FILE: '',
    OTHER_PORT: '1',
  });
  strictEqual(warnings.length, 3);
  match(warnings[0] ?? '', /^CLAUDE_API_KEY_6 is not a setting and has no effect; did you mean CLAUDE_API_KEY_\d\?$/);
  strictEqual(warnings[1], 'SALLYPORT_PROT is not a setting and has no effect; did you mean SALLYPORT_PORT?');
  strictEqual(warnings[2], 'SALLYPORT_SOMETHING_ELSE is not a setting and has no effect');
});

test('an empty variable counts as not set, but an empty list is empty', () => {
  const settings = load({
    SALLYPORT_PORT: '',
    CLAUDE_API_KEY_1: '',
    SALLYPORT_WORKSPACE_ROOTS: '',
    SALLYPORT_CORS_ORIGINS: ' ',
  });
  strictEqual(settings.port, 8000);
  deepStrictEqual([settings.userKeys, settings.workspaceRoots, settings.corsOrigins], [[], [], []]);
  strictEqual(settings.sources.port, 'default');
});
