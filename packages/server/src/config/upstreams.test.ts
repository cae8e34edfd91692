import { deepStrictEqual, doesNotMatch, match, ok, strictEqual } from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { aDirectory } from '../testing/directory.ts';
import { load, refused } from '../testing/settings.ts';
import { describeSettings } from './describe.ts';
import { secretsOf } from './settings.ts';
import { watchUpstreams } from './upstreams-watch.ts';
import type { UpstreamEntry } from './upstreams.ts';

const listed = (...upstreams: object[]) => ({ SALLYPORT_UPSTREAMS: JSON.stringify(upstreams) });
const one = { name: 'one', base_url: 'https://one.test', keys: ['canary-1'] };

test('without any key there is no upstream but the simulator', () => {
  const { upstream, upstreams, rereadUpstreams } = load();
  deepStrictEqual([upstream, upstreams, rereadUpstreams], ['simulator', [], null]);
  deepStrictEqual(load({ ...listed(one), SALLYPORT_UPSTREAM: 'simulator' }).upstreams, []);
});

test('the key of Anthropic is the first upstream, those of the list follow in their order', (t) => {
  const directory = aDirectory(t);
  writeFileSync(join(directory, 'keys'), 'canary-3\n\n  canary-4\r\n');
  const two = { name: 'two', base_url: 'http://two.test/x', key_file: 'keys', max_concurrent: 5, models: ['m'] };
  const env = { ANTHROPIC_API_KEY: 'canary-0', SALLYPORT_MODELS: 'm', ...listed(one, two) };
  const settings = load(env, { cwd: directory });
  deepStrictEqual(settings.upstreams, [
    {
      name: 'anthropic',
      baseUrl: 'https://api.anthropic.com',
      keys: ['canary-0'],
      maxConcurrent: 256,
      models: null,
    },
    { name: 'one', baseUrl: 'https://one.test', keys: ['canary-1'], maxConcurrent: 256, models: null },
    { name: 'two', baseUrl: 'http://two.test/x', keys: ['canary-3', 'canary-4'], maxConcurrent: 5, models: ['m'] },
  ]);
  strictEqual(settings.upstream, 'anthropic');
  const alone = load({ ...listed(one), SALLYPORT_UPSTREAM_MAX_CONCURRENT: '7' });
  deepStrictEqual(
    alone.upstreams.map(({ name, maxConcurrent }) => [name, maxConcurrent]),
    [['one', 7]],
  );
  deepStrictEqual(secretsOf(settings), ['canary-0', 'canary-1', 'canary-3', 'canary-4']);
  doesNotMatch(JSON.stringify(describeSettings(settings)), /canary/);
});

test('a list that cannot be used is refused in one line that shows nothing of it', (t) => {
  const directory = aDirectory(t);
  writeFileSync(join(directory, 'spaced'), 'canary 1\n');
  const { keys: _, ...keyless } = one;
  const wrong: [Record<string, string>, RegExp][] = [
    [{ SALLYPORT_UPSTREAMS: 'canary' }, /^SALLYPORT_UPSTREAMS cannot be used; it must be a JSON list /],
    [{ SALLYPORT_UPSTREAMS: '{}' }, /^SALLYPORT_UPSTREAMS cannot be used; /],
    [{ SALLYPORT_UPSTREAMS: '[]' }, /^SALLYPORT_UPSTREAMS cannot be used; /],
    [listed(one, { ...one, base_url: 'canary' }), /^SALLYPORT_UPSTREAMS cannot be used at 1\.base_url; /],
    [listed({ ...one, base_url: 'https://canary:canary@a' }), / at 0\.base_url; /],
    [listed({ ...one, name: 'Canary canary' }), / at 0\.name; /],
    [listed({ ...one, keys: ['x', 'canary canary'] }), / at 0\.keys\.1; /],
    [listed({ ...one, keys: [] }), / at 0\.keys; /],
    [listed({ ...one, max_concurrent: 0 }), / at 0\.max_concurrent; /],
    [listed({ ...one, canary: 1 }), / at 0; /],
    [listed(keyless), / at 0; /],
    [listed({ ...one, key_file: 'x' }), / at 0; /],
    [listed(one, one), /^SALLYPORT_UPSTREAMS has two upstreams named "one"; every name must be different$/],
    [
      { ANTHROPIC_API_KEY: 'x', ...listed({ ...one, name: 'anthropic' }) },
      /named "anthropic"; the one of ANTHROPIC_API_KEY has that name; every/,
    ],
    [listed({ ...one, keys: ['canary', 'canary'] }), /: "one" has the same key twice; every key must be different$/],
    [listed({ ...one, models: ['m'] }), /^SALLYPORT_UPSTREAMS has no upstream for the model "claude-sonnet-5-5"/],
    [
      listed({ ...keyless, key_file: 'no' }),
      /^SALLYPORT_UPSTREAMS: key_file of "one" is ".*\/no", which cannot be read/,
    ],
    [listed({ ...keyless, key_file: 'spaced' }), /: key_file of "one" is "spaced", which must hold one key a line/],
  ];
  for (const [env, message] of wrong) {
    const told = refused(() => load(env, { cwd: directory }));
    match(told, message);
    doesNotMatch(told, /canary/i);
  }
});

/** Upstreams that are watched in files, looked at when the test says so. */
function aWatch(directory: string, env: Record<string, string>) {
  const { upstreams, rereadUpstreams } = load(env, { cwd: directory });
  ok(rereadUpstreams);
  const applied: (readonly UpstreamEntry[])[] = [];
  const lines: string[] = [];
  const write = (data: object, message: string) => void lines.push(JSON.stringify({ ...data, message }));
  const log = { info: write, warn: write, error: write };
  const { look, close } = watchUpstreams({
    reread: rereadUpstreams,
    current: upstreams,
    apply: (next) => void applied.push(next),
    log,
  });
  close();
  const keys = () => applied.map((next) => next.map((upstream) => upstream.keys.join(' ')).join(' | '));
  return { look, keys, lines };
}

test('what is in files is read again: the list, the files of keys it names, and the key of Anthropic', (t) => {
  const directory = aDirectory(t);
  const put = (name: string, text: string) => writeFileSync(join(directory, name), text);
  put('key', 'canary-a');
  put('keys', 'canary-b');
  put('list', JSON.stringify([{ name: 'one', base_url: 'http://one.test', key_file: 'keys' }]));
  const watch = aWatch(directory, { ANTHROPIC_API_KEY_FILE: 'key', SALLYPORT_UPSTREAMS_FILE: 'list' });
  watch.look();
  deepStrictEqual(watch.keys(), [], 'nothing has changed');
  put('keys', 'canary-b\ncanary-c');
  watch.look();
  put('key', 'canary-d');
  watch.look();
  put('list', JSON.stringify([one]));
  watch.look();
  watch.look();
  deepStrictEqual(watch.keys(), [
    'canary-a | canary-b canary-c',
    'canary-d | canary-b canary-c',
    'canary-d | canary-1',
  ]);
  strictEqual(watch.lines.length, 3);
  doesNotMatch(watch.lines.join('\n'), /canary/);
});

test('a file that has become unusable changes nothing, is told of once without its content, and may recover', (t) => {
  const directory = aDirectory(t);
  const list = join(directory, 'list');
  writeFileSync(list, JSON.stringify([one]));
  const watch = aWatch(directory, { SALLYPORT_UPSTREAMS_FILE: 'list' });
  for (const broken of [
    '[{"name": "one", "keys": ["canary-2',
    JSON.stringify([{ ...one, keys: ['canary canary'] }]),
    JSON.stringify([{ ...one, models: ['canary-model'] }]),
    '',
    ' '.repeat(1_000_001),
  ]) {
    const before = watch.lines.length;
    writeFileSync(list, broken);
    watch.look();
    watch.look();
    strictEqual(watch.lines.length, before + 1, broken.slice(0, 40));
    match(watch.lines.at(-1) ?? '', /SALLYPORT_UPSTREAMS_FILE .*those before stay/);
    doesNotMatch(watch.lines.at(-1) ?? '', /canary/);
  }
  deepStrictEqual(watch.keys(), []);
  writeFileSync(list, JSON.stringify([{ ...one, keys: ['canary-9'] }]));
  watch.look();
  deepStrictEqual(watch.keys(), ['canary-9']);
});

test('upstreams that stand in the environment alone are not read again', () => {
  strictEqual(load({ ANTHROPIC_API_KEY: 'x', ...listed(one) }).rereadUpstreams, null);
});
