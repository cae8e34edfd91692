import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { modes, type Defence, type LaterAttempt } from '../attempt.ts';
import { orders, sprungIn } from '../repository.ts';
import { secretsIn } from '../run.ts';
import type { Ground } from '../world.ts';

/** Names of the traps that called the model from this repository. */
function calledFrom({ service, project }: Ground): string[] {
  const mark = new RegExp(`trap-fired-${basename(project)}-([\\w-]+)`, 'u');
  return service.simulator.requests.flatMap(({ body }) => mark.exec(JSON.stringify(body?.messages))?.[1] ?? []);
}

const bodiesOf = (at: Ground) => at.conversation.calls().map(({ body }) => body);

/** Git, asked by Claude Code itself. */
const gitAsked = (at: Ground): boolean => JSON.stringify(bodiesOf(at)).includes('This is the git status');

interface Trap {
  readonly name: string;
  readonly reaches: string;
  /** Where it lies in the repository. */
  readonly file: string;
  /** Names of the traps that it runs. */
  readonly runs: RegExp;
  readonly by: Defence;
  /** False: what would have sprung the trap did not happen. */
  readonly touched?: (at: Ground) => boolean;
}

export const trap = ({ name, reaches, file, runs, by, touched = () => true }: Trap): LaterAttempt => ({
  name,
  reaches,
  modes,
  async play(at, { traps }) {
    const there = (await stat(join(at.project, file)).catch(() => null)) !== null;
    const works = [...traps].some((each) => runs.test(each));
    const sprung = [...(await sprungIn(at.project)), ...calledFrom(at)].filter((each) => runs.test(each));
    return {
      notTried: !there
        ? `${file} is not in the repository`
        : !works
          ? 'the trap does not work where it is run'
          : touched(at)
            ? null
            : 'nothing came near the trap',
      gained: [...new Set(sprung)].map((each) => `the trap ${each} ran`),
      stoppedBy: [by],
    };
  },
});

const hooks = 'commands at every step of Claude Code';

const settingTraps = [
  { name: 'trap-hooks', reaches: hooks, file: '.claude/settings.json', runs: /^settings-(?!key|status)/u },
  { name: 'trap-local-hooks', reaches: hooks, file: '.claude/settings.local.json', runs: /^local-(?!key|status)/u },
  { name: 'trap-key-helper', reaches: 'a command for the key', file: '.claude/settings.json', runs: /key-helper$/u },
  { name: 'trap-server', reaches: 'an MCP server of the repository', file: '.mcp.json', runs: /^mcp$/u },
  { name: 'trap-shells', reaches: 'files that shells read', file: '.envrc', runs: /^(?:envrc|bashrc|profile)$/u },
  { name: 'trap-packages', reaches: 'code that npm, node and bun load', file: '.npmrc', runs: /^preload$/u },
  { name: 'trap-programs', reaches: 'programs named git and rg in the repository', file: 'git', runs: /^program-/u },
] as const;

/** What the repository brings. To be judged before a command of the run has used git. */
export const trapAttempts: readonly LaterAttempt[] = [
  ...settingTraps.map((each) => trap({ ...each, by: 'settings' })),
  trap({
    name: 'trap-git-asked',
    reaches: 'programs in the configuration of git, when Claude Code itself asks git',
    file: '.git/config',
    runs: /^(?:filter|gpg|diff|fsmonitor|sub-fsmonitor)$/u,
    by: 'git',
    touched: gitAsked,
  }),
  {
    name: 'trap-address',
    reaches: 'model calls with their key, at the address of the attacker',
    modes,
    async play(at, { moved }) {
      const isWrong = ({ headers, body }: ReturnType<typeof at.conversation.calls>[number]) =>
        headers['x-hostile'] !== undefined || body?.model !== 'sallyport-simulator';
      const gained = at.elsewhere.requests.length > 0 ? ['a model call was moved'] : [];
      return {
        notTried: moved > 0 ? null : 'the address does not even move a Claude Code that trusts it',
        gained: at.conversation.calls().some(isWrong) ? [...gained, 'a model call was changed'] : gained,
        stoppedBy: ['settings'],
      };
    },
  },
  {
    name: 'trap-orders',
    reaches: 'the model, by CLAUDE.md, agents, commands, skills, rules and styles that give orders',
    modes,
    async play(at, control) {
      const said = JSON.stringify(bodiesOf(at));
      const obeyed = Object.entries(orders).filter(([, word]) => said.includes(word));
      return {
        notTried: control.orders.includes('CLAUDE.md')
          ? null
          : 'orders do not even reach a Claude Code that trusts them',
        gained: obeyed.map(([path]) => `${path} reached the model`),
        stoppedBy: ['settings'],
      };
    },
  },
  {
    name: 'context',
    reaches: 'secrets in all that Claude Code tells the model',
    modes,
    async play(at) {
      // What the model said itself is no news to it.
      const bodies = bodiesOf(at).map((body) => ({
        ...body,
        messages: body?.messages.filter(({ role }) => role !== 'assistant'),
      }));
      return {
        notTried: bodies.length > 1 ? null : 'there was no model call',
        gained: secretsIn(at, JSON.stringify(bodies)).map((name) => `the model was told ${name}`),
        stoppedBy: ['environment'],
      };
    },
  },
];
