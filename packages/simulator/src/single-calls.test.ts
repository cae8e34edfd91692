import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { ask, fetchRaw, user } from '../test/raw-client.ts';
import { startSimulator } from './index.ts';
import type { AnswerBlock, Brain, Message, Script, Simulator, Step } from './index.ts';

let simulator: Simulator;
before(async () => {
  simulator = await startSimulator();
});
beforeEach(() => simulator.reset());
after(() => simulator.close());

const single = { tool_choice: { type: 'auto', disable_parallel_tool_use: true } };
const call = (name: string): AnswerBlock => ({ type: 'tool_use', name, input: {} });
const many: Step = {
  thinking: 'Hm.',
  text: 'Three calls.',
  tools: [
    { name: 'A', input: {} },
    { name: 'B', input: {} },
    { name: 'C', input: {} },
  ],
};

interface Whole {
  content: { type: string; id?: string; name?: string; text?: string }[];
  stop_reason: string;
  usage: { input_tokens: number };
}

/** Plays a turn to the first answer without a tool call, and returns its answers. */
async function turn(prompt: string, more: object = single): Promise<Whole[]> {
  const messages: Message[] = [user(prompt)];
  const answers: Whole[] = [];
  for (let number = 0; number < 12; number += 1) {
    const { status, body } = await fetchRaw(simulator, ask(messages, { ...more, stream: false }));
    assert.equal(status, 200, body);
    const answer = JSON.parse(body) as Whole;
    answers.push(answer);
    const calls = answer.content.filter(({ type }) => type === 'tool_use');
    if (calls.length === 0) return answers;
    messages.push({ role: 'assistant', content: answer.content });
    messages.push(user(calls.map(({ id }) => ({ type: 'tool_result', tool_use_id: id ?? '', content: 'done' }))));
  }
  throw new Error('the turn does not end');
}

/** What is in answers: names of calls, texts, else types. */
const brief = (answers: Whole[]) =>
  answers.map(({ content }) => content.map((block) => block.name ?? block.text ?? block.type).join(' '));

test('calls of a step come one per answer where the request disables parallel ones, and texts once', async () => {
  const script: Script = { steps: [many, { text: 'Then.', tools: [{ name: 'D', input: {} }] }, { text: 'End.' }] };
  simulator.play(script);
  const answers = await turn('go');
  assert.deepEqual(brief(answers), ['thinking Three calls. A', 'B', 'C', 'Then. D', 'End.']);
  assert.deepEqual(
    answers.map((answer) => answer.stop_reason),
    ['tool_use', 'tool_use', 'tool_use', 'tool_use', 'end_turn'],
  );
  const prompt = `<<simulate ${JSON.stringify(script)}>>`;
  assert.deepEqual(brief(await turn(prompt)), ['thinking Three calls. A', 'B', 'C', 'Then. D', 'End.']);
});

test('they come together where nothing is disabled, or the step plays an upstream that does not care', async () => {
  simulator.play({ steps: [many, { text: 'End.' }] });
  for (const more of [
    {},
    { tool_choice: { type: 'auto' } },
    { tool_choice: { ...single.tool_choice, disable_parallel_tool_use: false } },
  ]) {
    assert.deepEqual(brief(await turn('go', more)), ['thinking Three calls. A B C', 'End.']);
  }
  simulator.play({ steps: [{ ...many, parallel: true }, many, { text: 'End.' }] });
  const answers = ['thinking Three calls. A B C', 'thinking Three calls. A', 'B', 'C', 'End.'];
  assert.deepEqual(brief(await turn('go')), answers);
});

test('a structured output is a call like others', async () => {
  simulator.play({ steps: [{ tools: [{ name: 'A', input: {} }], structured: { n: 1 } }, { text: 'End.' }] });
  assert.deepEqual(brief(await turn('go')), ['A', 'StructuredOutput', 'End.']);
});

test('given blocks keep their order; what follows the last call comes with it', async () => {
  const text = (words: string): AnswerBlock => ({ type: 'text', text: words });
  const blocks = [text('1'), call('A'), text('2'), text('3'), call('B'), text('4')];
  simulator.play({ steps: [{ blocks }, { text: 'End.' }] });
  assert.deepEqual(brief(await turn('go')), ['1 A', '2 3 B 4', 'End.']);
});

test('a step of several answers has its fault once, its stop reason last, and the rest each time', async () => {
  const step: Step = {
    ...many,
    fault: { kind: 'status', status: 529 },
    fault_times: 1,
    stop_reason: 'max_tokens',
    usage: { input_tokens: 7 },
  };
  simulator.play({ steps: [step, { text: 'End.' }] });
  assert.equal((await fetchRaw(simulator, ask('go', single))).status, 529);
  const answers = (await turn('go')).slice(0, 3);
  assert.deepEqual(
    answers.map((answer) => [answer.stop_reason, answer.usage.input_tokens]),
    [
      ['tool_use', 7],
      ['tool_use', 7],
      ['max_tokens', 7],
    ],
  );
});

test('a function that decides is held to one call per answer too', async () => {
  const brain: Brain = (_request, context) => (context.call < 2 ? many : { text: 'End.' });
  simulator.play(brain);
  assert.deepEqual(brief(await turn('go')), ['thinking Three calls. A', 'thinking Three calls. A', 'End.']);
});

test('a turn that goes on after a crash goes on with the next call of the step', async () => {
  simulator.play({ steps: [many, { text: 'End.' }] });
  const go = { type: 'text', text: 'go' };
  const resumed = { type: 'text', text: 'Continue from where you left off.' };
  const messages: Message[] = [
    user([go]),
    {
      role: 'assistant',
      content: [
        { type: 'text', text: 'Three calls.' },
        { ...call('A'), id: 'a' },
      ],
    },
    user([{ type: 'tool_result', tool_use_id: 'a', content: 'done' }, resumed]),
  ];
  const { body } = await fetchRaw(simulator, ask(messages, { ...single, stream: false }));
  assert.deepEqual(brief([JSON.parse(body) as Whole]), ['B']);
  const again = await fetchRaw(simulator, ask([user([go, resumed])], { ...single, stream: false }));
  assert.deepEqual(brief([JSON.parse(again.body) as Whole]), ['thinking Three calls. A']);
});
