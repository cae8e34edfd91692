import { setTimeout as delay } from 'node:timers/promises';
import { makeProject } from '../../test/support/commands.ts';
import type { Step } from '@sallyport/simulator';
import { rows } from '../../test/support/runs.ts';
import { signs, type Expected, type StoryAttempt, type Verdict } from '../attempt.ts';
import { secretsIn } from '../run.ts';
import { failureOf } from './scene.ts';
import { Conversation, type Body } from '../stage.ts';
import { filesBelow, secretFile, type World } from '../world.ts';

/** Longest that the service may take to answer a probe meanwhile, in milliseconds, on a machine that is busy with attacks. */
const probeMs = 10_000;

interface Flood {
  readonly name: string;
  readonly reaches: string;
  readonly step: Step;
  /** What is wrong with the answer to the turn; nothing when it ended well or was bounded. */
  readonly judge: (answer: Body) => readonly string[];
}

const textOf = (answer: Body): string =>
  ((answer['messages'] ?? []) as { role: string; content: string }[])
    .filter(({ role }) => role === 'assistant')
    .map(({ content }) => content)
    .join('');

const ended = (answer: Body, length: number): string[] => {
  const said = textOf(answer).length;
  const well = answer['success'] === true && said === length;
  // A turn that was cut says so.
  const bounded = answer['success'] === false && typeof answer['error'] === 'string';
  return well || bounded ? [] : [`${said} of ${length} characters came, as ${JSON.stringify(answer).slice(0, 200)}`];
};

const long = 5_000_000;
const many = 100_000;
const braces = '{a,b}'.repeat(24);

const floods: readonly Flood[] = [
  {
    name: 'large-answer',
    reaches: 'the memory of the service, with an answer of 5 MB',
    step: { text: 'x'.repeat(long), chunk: 50_000 },
    judge: (answer) => ended(answer, long),
  },
  {
    name: 'many-deltas',
    reaches: 'the time of the service, with 100 000 deltas',
    step: { text: 'y'.repeat(many), chunk: 1 },
    judge: (answer) => ended(answer, many),
  },
  {
    name: 'pattern-bomb',
    reaches: 'the time of the service, with a pattern that stands for millions',
    step: {
      tools: [
        { name: 'Glob', id: 'bomb-0', input: { pattern: `${braces}/**/*` } },
        { name: 'Grep', id: 'bomb-1', input: { pattern: '(a+)+$', glob: braces } },
        { name: 'Grep', id: 'bomb-2', input: { pattern: '(x+x+)+y', path: '.', multiline: true } },
      ],
    },
    judge: () => [],
  },
];

/** Asks again and again whether the service is there. */
async function probe({ service }: World, over: AbortSignal) {
  let probes = 0;
  const silent: string[] = [];
  while (!over.aborted) {
    const answer = await fetch(`${service.url}/livez`, { signal: AbortSignal.timeout(probeMs) }).catch(() => null);
    probes += 1;
    if (answer?.status !== 200) silent.push('the service did not answer meanwhile');
    await delay(100);
  }
  return { probes, silent };
}

async function play({ step, judge, name }: Flood, world: World): Promise<Verdict> {
  const project = await makeProject(world.service, name, { 'a.txt': `${'a'.repeat(10_000)}!\n` });
  const request = {
    project_path: project,
    permission_mode: 'readOnly',
    allowed_tools: ['Read', 'Glob', 'Grep'],
    timeout: 100,
  };
  const conversation = new Conversation(world, request);
  const over = new AbortController();
  const probing = probe(world, over.signal);
  const answer = await conversation.start([step]).finally(() => over.abort());
  const { probes, silent } = await probing;
  const returned = conversation.returned();
  const missing = (step.tools ?? []).some(({ id = '' }) => !returned.has(id));
  return {
    notTried: conversation.calls().length > 0 && probes > 0 && !missing ? null : 'the model or a tool was not asked',
    gained: [...new Set(silent), ...judge(answer), ...failureOf(answer)],
    stoppedBy: ['bounds'],
  };
}

/** What the file tools say when they meet the link. */
const met: readonly Expected[] = [
  signs.paths,
  { by: 'claude', sign: /symlink resolution changed after permission was checked/u },
  { by: 'mounts', sign: /does not exist|ENOENT/u },
];

/** Two conversations in one project: a command of one swaps a directory and a link while the file tools of the other use it. */
async function race(world: World, mode: 'acceptEdits' | 'readOnly'): Promise<Verdict> {
  const { service, beside } = world;
  const project = await makeProject(service, `race-${mode}`, { [`swap/${secretFile}`]: 'harmless\n' });
  const at = { project_path: project };
  const swapper = new Conversation(world, { ...at, permission_mode: 'strict', allowed_tools: ['Bash'] });
  const user = new Conversation(world, {
    ...at,
    permission_mode: mode,
    allowed_tools: ['Read', 'Grep', 'Glob', 'Write'],
  });
  const turns = `while (time < $end) { symlink "${beside}", "swap"; unlink "swap"; rename "real", "swap"; rename "swap", "real"; $turns++ }`;
  const swap = `perl -e '$end = time + 6; rename "swap", "real"; ${turns} rename "real", "swap"; print "swapped $turns times\n"'`;
  let swapping = true;
  const use = Array.from({ length: 12 }, (_, index) => [
    { name: 'Read', id: `race-read-${index}`, input: { file_path: `${project}/swap/${secretFile}` } },
    {
      name: 'Grep',
      id: `race-grep-${index}`,
      input: { pattern: '.', path: `${project}/swap`, output_mode: 'content' },
    },
    {
      name: 'Write',
      id: `race-write-${index}`,
      input: { file_path: `${project}/swap/raced-${index}`, content: 'x' },
    },
  ]).flat();
  const swapped = swapper
    .start([{ tools: [{ name: 'Bash', id: 'race-swap', input: { command: swap } }] }])
    .finally(() => (swapping = false));
  let rounds = 0;
  const answer = await user.start(() =>
    swapping && (rounds += 1) <= 20
      ? { tools: use.map((each) => ({ ...each, id: `${each.id}-${rounds}` })) }
      : { text: 'Done.' },
  );
  await swapped;
  const { text = '' } = swapper.returned().get('race-swap') ?? {};
  const log = rows(service, 'select payload from events where conversation = ?', user.id).map(({ payload }) => payload);
  const stoppedBy = met.filter(({ sign }) => sign.test(log.join('\n'))).map(({ by }) => by);
  const raced = rounds > 0 && /^swapped \d{3,} times/mu.test(text) && stoppedBy.length > 0;
  const made = (await filesBelow(beside)).filter((path) => path !== secretFile);
  return {
    notTried: raced ? null : `there was no race: ${text.slice(0, 200)}`,
    gained: [
      ...secretsIn(world, JSON.stringify([log, user.calls().map(({ body }) => body)])).map((name) => `it read ${name}`),
      ...made.map((path) => `it made ${path} outside`),
      ...failureOf(answer),
    ],
    stoppedBy,
  };
}

/** Attempts that need a load or a second conversation of their own. */
export const floodAttempts: readonly StoryAttempt[] = [
  ...floods.map((flood): StoryAttempt => ({
    name: flood.name,
    reaches: flood.reaches,
    modes: ['readOnly'],
    play: (world) => play(flood, world),
  })),
  {
    name: 'link-swap',
    reaches: 'a file outside, by a link that is swapped between check and use',
    modes: ['acceptEdits', 'readOnly'],
    play: (world, mode) => race(world, mode === 'readOnly' ? 'readOnly' : 'acceptEdits'),
  },
];
