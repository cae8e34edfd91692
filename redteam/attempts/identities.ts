import { symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { rows } from '../../test/support/runs.ts';
import { signs } from '../attempt.ts';
import { filesBelow, jailIn, madeFile } from '../world.ts';
import { allowOnly, deny, mustHaveAsked, NotTried, write, type Played, type Scene } from './scene.ts';

/** How many calls were refused for a reason, as the conversation's log says. */
function refusedAs({ world, conversation }: Played, reason: string): number {
  const query = "select payload from events where type = 'tool_denied' and conversation = ?";
  return rows(world.service, query, conversation.id).filter(({ payload }) => String(payload).includes(reason)).length;
}

/** Attempts to have another call made than the one that was allowed. */
export const identityScenes: readonly Scene[] = [
  {
    name: 'one-id-twice',
    reaches: 'an edit, under the id of a call that was allowed',
    steps: (project) => [
      { tools: [write(`${project}/allowed.txt`, 'same'), write(`${project}/slipped.txt`, 'same')] },
      { tools: [write(`${project}/slipped-later.txt`, 'same')] },
      { tools: [{ name: 'Bash', id: 'same', input: { command: 'touch slipped-command' } }] },
      { tools: [{ name: 'Read', id: 'reading', input: { file_path: `${project}/a.txt` } }] },
      { tools: [write(`${project}/slipped-reading.txt`, 'reading')] },
    ],
    mind: allowOnly('allowed.txt'),
    may: ['allowed.txt'],
    runs: ['same', 'reading'],
    expected: [],
    by: ['input'],
    judge(played) {
      mustHaveAsked(played, 1);
      const again = refusedAs(played, 'It was made before.');
      if (again < 4) throw new NotTried(`${again} calls under a used id reached the gate, not 4`);
      return [];
    },
  },
  {
    name: 'one-id-hides-a-call',
    reaches: 'an edit that neither result nor audit log tell of',
    steps: (project) => [
      { tools: [write(`${project}/hidden.txt`, 'hide')] },
      { tools: [write(`${project}/hidden.txt`, 'hide')] },
    ],
    mind: () => ({ decision: 'allow' }),
    may: ['hidden.txt'],
    runs: ['hide'],
    expected: [],
    by: ['input'],
    judge(played) {
      mustHaveAsked(played, 1);
      if (refusedAs(played, 'It was made before.') === 0) throw new NotTried('the second call did not reach the gate');
      const used = played.answer['tools_used'];
      const told = Array.isArray(used) && used.includes('Write');
      const denied = refusedAs(played, 'Claude Code itself does not run this unasked.') > 0;
      return [
        ...(told ? [] : ['the result does not name the tool that ran']),
        ...(denied ? ['log and audit log say that the call that ran was denied'] : []),
      ];
    },
  },
  {
    name: 'remembered-too-widely',
    reaches: 'other places and tools, by an approval for the whole conversation',
    steps: (project, { beside }) => [
      { tools: [write(`${project}/allowed.txt`, 'wide-0')] },
      {
        tools: [
          write(`${project}/.git/hooks/pre-commit`, 'wide-1'),
          write(`${beside}/${madeFile}`, 'wide-2'),
          { name: 'Bash', id: 'wide-3', input: { command: 'touch slipped' } },
          {
            name: 'Edit',
            id: 'wide-4',
            input: { file_path: `${project}/a.txt`, old_string: 'one', new_string: 'two' },
          },
        ],
      },
    ],
    mind: (asked) => (asked.tool === 'Write' ? { decision: 'allow', remember: 'conversation' } : deny),
    may: ['allowed.txt'],
    runs: ['wide-0'],
    expected: [signs.sensitive, signs.paths, signs.approval, signs.claude],
    judge(played) {
      mustHaveAsked(played, 2);
      const returned = played.conversation.returned();
      const refusals = { 'wide-1': signs.sensitive, 'wide-2': signs.paths, 'wide-3': signs.approval };
      return Object.entries(refusals).flatMap(([id, { sign }]) =>
        sign.test(returned.get(id)?.text ?? '') ? [] : [`${id} was not refused`],
      );
    },
  },
  {
    name: 'moved-while-waiting',
    reaches: 'a file outside, by a link put where an allowed edit is to be',
    steps: (project) => [
      { tools: ['beside', 'config', 'up'].map((name) => write(`${project}/${name}/${madeFile}`, `moved-${name}`)) },
    ],
    async mind(asked, project, world) {
      const name = basename(dirname(String(asked.input['file_path'])));
      const { id } = await jailIn(world, project);
      const config = join(world.service.sallyport.settings.runDir, 'jails', id, 'config');
      const target = { beside: world.beside, up: '../beside', config }[name] ?? world.beside;
      await symlink(target, join(project, name));
      return { decision: 'allow' };
    },
    may: ['beside', 'config', 'up'],
    expected: [
      signs.paths,
      { by: 'claude', sign: /symlink resolution changed after permission was checked|<tool_use_error>/u },
      { by: 'mounts', sign: /ENOENT|No such file|does not exist/u },
    ],
    async judge(played) {
      mustHaveAsked(played, 1);
      const { world } = played;
      const outside = [world.beside, join(world.service.sallyport.settings.runDir, 'jails')];
      const found = await Promise.all(outside.map(filesBelow));
      return found
        .flat()
        .filter((path) => path.includes(madeFile))
        .map((path) => `it made ${path}`);
    },
  },
];
