import { deepStrictEqual, doesNotMatch, match, ok, strictEqual } from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultBounds } from '@sallyport/protocol';
import { aDirectory } from '../testing/directory.ts';
import { load, machine, refused } from '../testing/settings.ts';
import { describeSettings, settingsMarkdown } from './describe.ts';
import { secretsOf } from './settings.ts';
import { settingKeys } from './table.ts';

const here = join(import.meta.dirname, '../testing');

test('nothing given is a server on loopback with the simulator and the current directory', () => {
  const settings = load();
  strictEqual(settings.host, '127.0.0.1');
  strictEqual(settings.loopback, true);
  strictEqual(settings.port, 8000);
  strictEqual(settings.dataDir, join(here, 'data'));
  match(settings.runDir, /^\/tmp\/sallyport-1000-[0-9a-f]{8}$/);
  strictEqual(settings.upstream, 'simulator');
  deepStrictEqual(settings.models, ['sallyport-simulator']);
  strictEqual(settings.defaultModel, 'sallyport-simulator');
  deepStrictEqual(settings.workspaceRoots, [here]);
  strictEqual(settings.isolation, 'auto');
  deepStrictEqual(settings.corsOrigins, ['http://localhost:3000']);
  deepStrictEqual([settings.publicHosts, settings.trustedProxies, settings.userKeys], [[], [], []]);
  deepStrictEqual([settings.masterKey, settings.anthropicApiKey, settings.prices], [null, null, null]);
  deepStrictEqual([settings.maxProcesses, settings.maxWaiting], [24, 240]);
  deepStrictEqual([settings.requestsPerMinute, settings.requestsPerHour, settings.burstSize], [30, 500, 10]);
  deepStrictEqual([settings.maxBodyBytes, settings.drainSeconds, settings.logLevel], [5_000_000, 30, 'info']);
  deepStrictEqual(settings.bounds, defaultBounds);
  deepStrictEqual([settings.warnings, secretsOf(settings)], [[], []]);
  ok(Object.values(settings.sources).every((source) => source === 'default'));
});

test('wrong values are refused in one line that names the setting, the value, and what is right', (t) => {
  const directory = aDirectory(t);
  writeFileSync(join(directory, 'file'), '');
  const wrong: [Record<string, string>, RegExp][] = [
    [{ SALLYPORT_PORT: '80a' }, /^SALLYPORT_PORT is "80a"; it must be a whole number from 0 to 65535$/],
    [{ SALLYPORT_PORT: '65536' }, /^SALLYPORT_PORT is "65536"; it must be /],
    [{ SALLYPORT_PORT: '-1' }, /^SALLYPORT_PORT is "-1"/],
    [{ SALLYPORT_PORT: '1e3' }, /^SALLYPORT_PORT is "1e3"/],
    [{ SALLYPORT_HOST: 'a b' }, /^SALLYPORT_HOST is "a b"; it must be a host name or an IP address$/],
    [{ SALLYPORT_HOST: 'http://a' }, /^SALLYPORT_HOST is /],
    [{ SALLYPORT_DATA_DIR: 'a\nb' }, /^SALLYPORT_DATA_DIR is "a\\nb"; it must be a path$/],
    [{ SALLYPORT_ISOLATION: 'docker' }, /^SALLYPORT_ISOLATION is "docker"; it must be one of auto, bwrap, none$/],
    [{ SALLYPORT_LOG_LEVEL: 'loud' }, /^SALLYPORT_LOG_LEVEL is "loud"; it must be one of fatal, /],
    [{ SALLYPORT_UPSTREAM: 'openai' }, /^SALLYPORT_UPSTREAM is "openai"; it must be one of anthropic, simulator$/],
    [{ SALLYPORT_UPSTREAM: 'anthropic' }, /^SALLYPORT_UPSTREAM is "anthropic", but ANTHROPIC_API_KEY is not set; /],
    [
      { ANTHROPIC_BASE_URL: 'api.anthropic.com' },
      /^ANTHROPIC_BASE_URL is "api\.anthropic\.com"; it must be an http or/,
    ],
    [{ ANTHROPIC_BASE_URL: 'ftp://a' }, /^ANTHROPIC_BASE_URL is "ftp:\/\/a"/],
    [{ ANTHROPIC_BASE_URL: 'http://a/?b' }, /^ANTHROPIC_BASE_URL is /],
    [
      { SALLYPORT_CORS_ORIGINS: '*' },
      /^SALLYPORT_CORS_ORIGINS is "\*"; it must be origins such as .*, never \*, separated/,
    ],
    [{ SALLYPORT_CORS_ORIGINS: 'http://a,null' }, /^SALLYPORT_CORS_ORIGINS is "http:\/\/a,null"/],
    [{ SALLYPORT_CORS_ORIGINS: 'http://a/' }, /^SALLYPORT_CORS_ORIGINS is /],
    [{ SALLYPORT_CORS_ORIGINS: 'https://*.example.com' }, /^SALLYPORT_CORS_ORIGINS is /],
    [
      { SALLYPORT_PUBLIC_HOSTS: 'https://a.example' },
      /^SALLYPORT_PUBLIC_HOSTS is "https:\/\/a\.example"; it must be host/,
    ],
    [{ SALLYPORT_TRUSTED_PROXIES: '10.0.0.0/33' }, /^SALLYPORT_TRUSTED_PROXIES is "10\.0\.0\.0\/33"; it must be IP/],
    [{ SALLYPORT_TRUSTED_PROXIES: '0.0.0.0/0' }, /^SALLYPORT_TRUSTED_PROXIES is /],
    [{ SALLYPORT_TRUSTED_PROXIES: 'nginx' }, /^SALLYPORT_TRUSTED_PROXIES is /],
    [
      { SALLYPORT_WORKSPACE_ROOTS: 'projects' },
      /^SALLYPORT_WORKSPACE_ROOTS is "projects"; .*: "projects" is not an absolute/,
    ],
    [{ SALLYPORT_WORKSPACE_ROOTS: `${directory}:/no/such` }, /; it must be .*: "\/no\/such" does not exist$/],
    [{ SALLYPORT_WORKSPACE_ROOTS: join(directory, 'file') }, /file" is not a directory$/],
    [{ SALLYPORT_MODELS: ' , ' }, /^SALLYPORT_MODELS is empty; it must name at least one model$/],
    [
      { SALLYPORT_DEFAULT_MODEL: 'x' },
      /^SALLYPORT_DEFAULT_MODEL is "x"; it must be one of the models: sallyport-simulator$/,
    ],
    [{ SALLYPORT_MAX_PROCESSES: '0' }, /^SALLYPORT_MAX_PROCESSES is "0"/],
    [{ SALLYPORT_BURST_SIZE: '-1' }, /^SALLYPORT_BURST_SIZE is "-1"; .* from 0 to 100000$/],
    [{ SALLYPORT_MAX_BODY_BYTES: '999999' }, /^SALLYPORT_MAX_BODY_BYTES is "999999"; .* from 1000000 to 50000000$/],
    [
      { SALLYPORT_MAX_PROMPT_CHARS: '9999' },
      /^SALLYPORT_MAX_PROMPT_CHARS is "9999"; it must be a whole number from 10000 to/,
    ],
    [{ SALLYPORT_MAX_TIMEOUT_SECONDS: '299' }, /^SALLYPORT_MAX_TIMEOUT_SECONDS is "299"/],
    [{ SALLYPORT_RUN_DIR: `/${'r'.repeat(90)}` }, /^SALLYPORT_RUN_DIR is .*; it must be a path of at most 83 bytes$/],
    [{ SALLYPORT_RUN_DIR: './data/run' }, /^SALLYPORT_RUN_DIR is .*; it must be outside the data directory /],
    [{ SALLYPORT_RUN_DIR: '.' }, /^SALLYPORT_RUN_DIR is /],
  ];
  for (const [env, message] of wrong)
    match(
      refused(() => load(env)),
      message,
    );
});

test('a secret is never shown, whatever is wrong with it', () => {
  const wrong = ['short', 'with a space in it, really', 'umlaut-ümlaut-ümlaut', 'new\nline-new-line-new'];
  for (const value of wrong) {
    for (const variable of ['CLAUDE_API_MASTER_KEY', 'CLAUDE_API_KEY_5']) {
      const message = refused(() => load({ [variable]: value }));
      strictEqual(
        message,
        `${variable} cannot be used; it must be at least 16 printable ASCII characters without spaces`,
      );
    }
  }
  match(
    refused(() => load({ ANTHROPIC_API_KEY: 'a b' })),
    /^ANTHROPIC_API_KEY cannot be used; /,
  );
  match(
    refused(() => load({ ANTHROPIC_BASE_URL: 'https://me:hunter2@a' })),
    /^ANTHROPIC_BASE_URL cannot be used; /,
  );
  const key = 'canary-canary-canary';
  strictEqual(
    refused(() => load({ CLAUDE_API_MASTER_KEY: key, CLAUDE_API_KEY_3: key })),
    'CLAUDE_API_KEY_3 is the same as CLAUDE_API_MASTER_KEY; every key must be different',
  );
  const flag = refused(() => load({}, { argv: ['--master-key', key] }));
  match(
    flag,
    /^--master-key is not a flag, as others can read command lines; use CLAUDE_API_MASTER_KEY or CLAUDE_API_MASTER_/,
  );
  const shown = JSON.stringify(describeSettings(load({ CLAUDE_API_MASTER_KEY: key, ANTHROPIC_API_KEY: key })));
  doesNotMatch(shown, /canary/);
});

test('workspace roots are real paths, and by default only a project on loopback is one', (t) => {
  const directory = aDirectory(t);
  mkdirSync(join(directory, 'real'));
  symlinkSync(join(directory, 'real'), join(directory, 'link'));
  const roots = `${join(directory, 'link')}:${join(directory, 'real')}:${directory}`;
  deepStrictEqual(load({ SALLYPORT_WORKSPACE_ROOTS: roots }).workspaceRoots, [join(directory, 'real'), directory]);
  deepStrictEqual(load({}, { cwd: join(directory, 'link') }).workspaceRoots, [join(directory, 'real')]);
  for (const host of ['localhost', '127.0.0.2', '::1']) {
    deepStrictEqual(load({ SALLYPORT_HOST: host }, { cwd: directory }).workspaceRoots, [directory]);
  }
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.example.com']) {
    const settings = load({ SALLYPORT_HOST: host }, { cwd: directory });
    deepStrictEqual([settings.loopback, settings.workspaceRoots], [false, []]);
  }
  deepStrictEqual(load({}, { cwd: '/' }).workspaceRoots, []);
});

test('with a key Anthropic answers, and the default model is always one of the models', () => {
  const key = { ANTHROPIC_API_KEY: 'sk-ant-0' };
  const plain = load(key);
  strictEqual(plain.upstream, 'anthropic');
  strictEqual(plain.defaultModel, 'claude-sonnet-5-5');
  ok(plain.models.includes(plain.defaultModel) && plain.models.length > 1);
  const named = load({ ...key, SALLYPORT_DEFAULT_MODEL: 'my-model' });
  deepStrictEqual([named.defaultModel, named.models[0]], ['my-model', 'my-model']);
  ok(named.models.includes('claude-sonnet-5-5'));
  strictEqual(load({ ...key, SALLYPORT_MODELS: 'a, b' }).defaultModel, 'a');
  deepStrictEqual(load({ ...key, SALLYPORT_MODELS: 'a, b,a' }).models, ['a', 'b']);
  match(
    refused(() => load({ ...key, SALLYPORT_MODELS: 'a', SALLYPORT_DEFAULT_MODEL: 'b' })),
    /must be one of the models: a$/,
  );
  const simulated = load({ ...key, SALLYPORT_UPSTREAM: 'simulator' });
  deepStrictEqual(simulated.models, ['sallyport-simulator']);
});

test('processes follow cores and memory', () => {
  const processes = (cores: number, memoryBytes: number) =>
    load({}, { machine: { ...machine, cores, memoryBytes } }).maxProcesses;
  deepStrictEqual([processes(1, 64e9), processes(16, 64e9), processes(16, 3e9), processes(16, 1e8)], [12, 192, 18, 1]);
  strictEqual(load({ SALLYPORT_MAX_PROCESSES: '3' }).maxWaiting, 30);
});

test('bounds of requests can be raised, and the body with them', () => {
  const settings = load({ SALLYPORT_MAX_PROMPT_CHARS: '20000', SALLYPORT_MAX_FILES_BYTES: '8000000' });
  deepStrictEqual(settings.bounds, { ...defaultBounds, promptChars: 20_000, filesBytes: 8_000_000 });
  strictEqual(settings.maxBodyBytes, 10_000_000);
});

test('the run directory belongs to the data directory, by its real path', (t) => {
  const directory = aDirectory(t);
  mkdirSync(join(directory, 'data'));
  symlinkSync(join(directory, 'data'), join(directory, 'link'));
  const of = (dataDir: string) => load({ SALLYPORT_DATA_DIR: dataDir }, { cwd: directory }).runDir;
  strictEqual(of('link'), of('data'));
  strictEqual(of('link/not-yet'), of('data/not-yet'));
  ok(of('data') !== of('data2'));
  const long = { ...machine, tmpdir: `/${'t'.repeat(80)}` };
  match(
    refused(() => load({}, { machine: long })),
    /^SALLYPORT_RUN_DIR is .*; it must be a path of at most 83 bytes$/,
  );
  strictEqual(load({ SALLYPORT_RUN_DIR: '/run/sallyport' }, { machine: long }).runDir, '/run/sallyport');
});

test('what is in force is described, with its source', () => {
  const lines = describeSettings(load({ SALLYPORT_PORT: '9000', CLAUDE_API_KEY_1: '0123456789abcdef' }));
  deepStrictEqual(
    lines.map((line) => line.key),
    settingKeys,
  );
  const line = (key: string) => {
    const found = lines.find((one) => one.key === key);
    return [found?.variable, found?.value, found?.source];
  };
  deepStrictEqual(line('port'), ['SALLYPORT_PORT', '9000', 'environment']);
  deepStrictEqual(line('key1'), ['CLAUDE_API_KEY_1', 'set', 'environment']);
  deepStrictEqual(line('masterKey'), ['CLAUDE_API_MASTER_KEY', 'not set', 'default']);
  deepStrictEqual(line('trustedProxies'), ['SALLYPORT_TRUSTED_PROXIES', 'none', 'default']);
  deepStrictEqual(line('maxPromptChars'), ['SALLYPORT_MAX_PROMPT_CHARS', '10000', 'default']);
  ok(lines.every(({ value }) => value !== '' && !value.includes('undefined') && !value.includes('[object')));
});

// To refresh the page: node -e "import('./packages/server/src/config/describe.ts').then((m) =>
// process.stdout.write(m.settingsMarkdown()))" > docs/reference/settings.md
test('the reference page of the settings is what the table says', () => {
  const page = join(import.meta.dirname, '../../../../docs/reference/settings.md');
  strictEqual(readFileSync(page, 'utf8'), settingsMarkdown());
});
