import assert from 'node:assert/strict';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { allow, startClaude, type Claude } from './claude.ts';

/** What a read of each gives: its length, or null. */
async function reads(claude: Claude): Promise<(number | null)[]> {
  const paths = ['note.txt', join(claude.workspace, 'note.txt'), 'none.txt', '/etc/hostname', 'link.txt', '.'];
  const answers = await Promise.all(paths.map((path) => claude.query.readFile(path)));
  return answers.map((answer) => answer?.contents.length ?? null);
}

test(
  'files of the workspace, and no others, can be read before, during and after a turn',
  { timeout: 30_000 },
  async (t) => {
    const seen: (number | null)[][] = [];
    let claude: Claude | null = null;
    const hook = async () => {
      if (claude !== null) seen.push(await reads(claude));
      return allow;
    };
    claude = await startClaude(
      { steps: [{ tools: [{ name: 'Glob', input: { pattern: '*' } }] }, { text: 'done' }] },
      { tools: ['Glob'], hooks: { PreToolUse: [{ hooks: [hook] }] } },
    );
    const { workspace, query, close } = claude;
    t.after(close);
    await writeFile(join(workspace, 'note.txt'), 'four');
    await writeFile(join(workspace, 'big.txt'), 'x'.repeat(3_000_000));
    await writeFile(join(workspace, 'binary'), Buffer.from([0xff, 0xfe, 0]));
    await symlink('/etc/passwd', join(workspace, 'link.txt'));
    seen.push(await reads(claude));
    claude.send('go');
    await claude.turn();
    seen.push(await reads(claude));
    const expected = [4, 4, null, null, null, null];
    assert.deepEqual(seen, [expected, expected, expected]);
    const capped = await query.readFile('big.txt');
    assert.deepEqual([capped?.contents.length, capped?.truncated], [1_000_000, true]);
    const whole = await query.readFile('big.txt', { maxBytes: 4_000_000 });
    assert.deepEqual([whole?.contents.length, whole?.truncated], [3_000_000, undefined]);
    const binary = await query.readFile('binary');
    assert.equal(binary?.lossy, true);
  },
);
