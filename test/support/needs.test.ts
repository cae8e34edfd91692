import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

function ask(needs: string[], env: Record<string, string> = {}) {
  const module = new URL('needs.ts', import.meta.url).href;
  const code = `import { leftOut } from ${JSON.stringify(module)};
    const needs = ${JSON.stringify(needs)};
    console.log(leftOut('jail', needs), leftOut('jail', needs));`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    encoding: 'utf8',
    env: { PATH: '/usr/bin:/bin', ...env },
  });
  return { stdout, stderr, status };
}

test('a suite whose executables are there is not left out', () => {
  assert.equal(ask(['sh']).stdout, 'false false\n');
});

test('a suite that lacks an executable is left out, in one line', () => {
  assert.equal(ask(['sh', 'no-such-tool']).stdout, 'left out: jail needs no-such-tool\ntrue true\n');
});

test('where nothing may be left out, the suite fails instead', () => {
  const { status, stderr } = ask(['no-such-tool'], { SALLYPORT_NOTHING_LEFT_OUT: '1' });
  assert.notEqual(status, 0);
  assert.match(stderr, /left out: jail needs no-such-tool/);
});

test('the package is named, not the executable', () => {
  assert.match(ask(['bwrap'], { PATH: '/nowhere' }).stdout, /needs bubblewrap\n/);
});
