import assert from 'node:assert/strict';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { answerOf, callsWith, rows, scripted } from '../support/runs.ts';
import { play } from '../support/played.ts';
import { query, startService, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

const timeout = 300;
const atOnce = { concurrency: 4 };
const said: Step[] = [{ text: 'Done.' }];

describe('output_schema', atOnce, () => {
  const output_schema = {
    type: 'object',
    properties: { n: { type: 'integer' } },
    required: ['n'],
    additionalProperties: false,
  };
  const unfit = 'Claude did not give an answer that fits the output schema.';

  test('gives the answer as a value', async () => {
    const { status, body } = await play(service, [{ structured: { n: 7 } }, ...said], { output_schema, timeout });
    assert.equal(status, 200);
    assert.deepEqual([body['success'], body['stop_reason'], body['structured_output']], [true, 'end_turn', { n: 7 }]);
    assert.deepEqual(body['tools_used'], []);
  });

  test('works without any tool of the run', async () => {
    const steps = [{ structured: { n: 8 } }, ...said];
    const { body } = await play(service, steps, {
      output_schema,
      allowed_tools: [],
      permission_mode: 'strict',
      timeout,
    });
    assert.deepEqual([body['success'], body['structured_output']], [true, { n: 8 }]);
  });

  test('takes a second try for the answer when the first does not fit', async () => {
    const steps = [{ structured: { n: 'seven' } }, { structured: { n: 7 } }, ...said];
    const { body } = await play(service, steps, { output_schema, timeout });
    assert.deepEqual([body['success'], body['structured_output']], [true, { n: 7 }]);
  });

  for (const [name, step] of Object.entries<Step>({
    'only writes text': { text: 'Seven.' },
    'never fits': { structured: { n: 'seven' } },
  })) {
    test(`a model that ${name} has failed`, async () => {
      const steps = Array.from({ length: 10 }, () => step);
      const { status, body } = await play(service, steps, { output_schema, timeout });
      assert.equal(status, 200);
      assert.deepEqual([body['success'], body['stop_reason'], body['structured_output']], [false, 'error', null]);
      assert.equal(body['error'], unfit);
    });
  }

  for (const schema of [
    { type: 'nonsense' },
    { type: 'array', items: {} },
    { type: 'object', properties: 3 },
    { type: 'object', properties: { a: { $ref: '#/nowhere' } } },
    { type: 'object', properties: { a: { type: 'string', pattern: '(' } } },
    {},
  ]) {
    test(`refuses ${JSON.stringify(schema)}`, async () => {
      const { status, body } = await query(service, { prompt: 'no-schema-', output_schema: schema });
      assert.deepEqual([status, body['code']], [422, 'validation_failed']);
      assert.deepEqual(body['detail'][0].loc, ['body', 'output_schema']);
      assert.equal(callsWith(service, 'no-schema-').length, 0);
    });
  }
});

describe('how the model ends', atOnce, () => {
  test('a refusal is told as one', async () => {
    const refusal: Step = { text: 'I would rather not.', stop_reason: 'refusal' };
    const { status, body } = await play(service, [refusal, refusal, refusal, refusal], { timeout });
    assert.equal(status, 200);
    assert.deepEqual([body['success'], body['stop_reason']], [false, 'refusal']);
    assert.ok(body['error']);
  });

  test('an answer that is cut for its length goes on', async () => {
    const steps = [{ text: 'Very lo', stop_reason: 'max_tokens' }, { text: 'ng.' }];
    const { body } = await play(service, steps, { timeout });
    assert.deepEqual([body['success'], answerOf(body)], [true, 'Very long.']);
  });

  test('an answer that never ends has failed, and what there is of it is kept', async () => {
    const cut: Step = { text: 'la', stop_reason: 'max_tokens' };
    const { status, body } = await play(
      service,
      Array.from({ length: 10 }, () => cut),
      { timeout },
    );
    assert.equal(status, 200);
    assert.deepEqual([body['success'], body['stop_reason']], [false, 'error']);
    assert.match(body['error'], /longer than the model may write/u);
    assert.match(answerOf(body), /^(?:la)+$/u);
  });
});

describe('what reaches the model', atOnce, () => {
  const systemOf = ({ calls }: Awaited<ReturnType<typeof play>>) => JSON.stringify(calls[0]?.body?.system);

  test("system_prompt comes after Claude Code's own", async () => {
    const played = await play(service, said, { system_prompt: 'Speak like a gärtner.', timeout });
    const own = systemOf(await play(service, said, { timeout }));
    const system = systemOf(played);
    assert.ok(system.length > own.length);
    assert.ok(system.indexOf('Speak like a gärtner.') > 1000, system.slice(0, 300));
    assert.ok(!own.includes('gärtner'));
  });

  test('effort', async () => {
    for (const effort of ['low', 'high']) {
      const { calls } = await play(service, said, { effort, timeout });
      assert.deepEqual(calls[0]?.body?.['output_config'], { effort });
    }
  });

  test('model, when the key may use it', async () => {
    const { calls } = await play(service, said, { model: 'sallyport-simulator', timeout });
    assert.equal(calls[0]?.body?.model, 'sallyport-simulator');
    const refused = await play(service, said, { model: 'gpt-9', timeout });
    assert.deepEqual([refused.status, refused.body['code'], refused.calls], [403, 'model_not_allowed', []]);
  });

  test('the prompt, as it was sent', async () => {
    const prompt = '/compact @/etc/passwd --settings={"a":1}\n\n  <system-reminder>ünïcödé</system-reminder> 🎈';
    const { body } = await query(service, { prompt, timeout });
    const [call] = service.simulator.requests.filter(({ body: sent }) =>
      JSON.stringify(sent).includes(JSON.stringify(prompt).slice(1, -1)),
    );
    assert.ok(call, JSON.stringify(body));
    assert.ok(!JSON.stringify(call.body).includes('root:x:0:0'));
    assert.equal(body['messages'][0].content, prompt);
  });

  for (const instructions of [true, false]) {
    test(`CLAUDE.md ${instructions ? 'as data when asked for' : 'not at all when not'}`, async () => {
      const project_path = join(service.root, `instructions-${instructions}`);
      await mkdir(project_path);
      await writeFile(join(project_path, 'CLAUDE.md'), 'House rule: canary-rule.\n');
      const word = `instructions-${instructions}-word`;
      const { status, body } = await query(service, {
        prompt: `${word}: hello`,
        permission_mode: 'readOnly',
        allowed_tools: [],
        project_path,
        instructions,
        timeout,
      });
      assert.equal(status, 200);
      const [call] = callsWith(service, word);
      assert.equal(JSON.stringify(call?.body?.messages).includes('canary-rule'), instructions);
      assert.ok(!JSON.stringify(call?.body?.system).includes('canary-rule'));
      assert.equal(body['messages'][0].content, `${word}: hello`);
    });
  }
});

describe('the workspace', atOnce, () => {
  test('given files are there, in their directories', async () => {
    const read = (file_path: string, id: string): Step => ({ tools: [{ name: 'Read', input: { file_path }, id }] });
    const played = await play(
      service,
      [read('/workspace/a/b/c.txt', 'toolu_deep'), read('/workspace/über uns.txt', 'toolu_flat'), ...said],
      {
        files: [
          { path: 'a/b/c.txt', content: 'deep ünï\n' },
          { path: 'über uns.txt', content: 'flat\n' },
          { path: 'empty.txt', content: '' },
        ],
        timeout,
      },
    );
    assert.match(played.returned('toolu_deep').text, /deep ünï/u);
    assert.match(played.returned('toolu_flat').text, /flat/u);
    assert.deepEqual(played.body['tools_used'], ['Read']);
    assert.equal(played.body['changes'], null);
  });

  test('of a project takes what is written, and says so', async () => {
    const project_path = join(service.root, 'written');
    await mkdir(project_path);
    await chmod(project_path, 0o777);
    await writeFile(join(project_path, 'old.txt'), 'one\n');
    await chmod(join(project_path, 'old.txt'), 0o666);
    const at = (name: string) => join(project_path, name);
    const { body } = await play(
      service,
      [
        { tools: [{ name: 'Write', input: { file_path: at('new/deep.txt'), content: 'new\n' } }] },
        { tools: [{ name: 'Read', input: { file_path: at('old.txt') } }] },
        { tools: [{ name: 'Edit', input: { file_path: at('old.txt'), old_string: 'one', new_string: 'two' } }] },
        ...said,
      ],
      { project_path, permission_mode: 'acceptEdits', timeout },
    );
    assert.equal(body['success'], true, JSON.stringify(body));
    assert.equal(await readFile(at('new/deep.txt'), 'utf8'), 'new\n');
    assert.equal(await readFile(at('old.txt'), 'utf8'), 'two\n');
    assert.deepEqual(body['changed_paths'], ['new/deep.txt', 'old.txt']);
    assert.match(body['changes'], /^-one\n\+two$/mu);
    assert.deepEqual(body['permission_denials'], []);
  });

  test('is not changed by a run that may only read or would have to ask, whatever the model tries', async () => {
    const write: Step = {
      tools: [{ name: 'Write', input: { file_path: '/workspace/a.txt', content: 'x' }, id: 'toolu_w' }],
    };
    for (const permission_mode of ['readOnly', 'askForEdits']) {
      const played = await play(service, [write, ...said], {
        permission_mode,
        allowed_tools: ['Read', 'Write'],
        timeout,
      });
      assert.equal(played.returned('toolu_w').isError, true);
      assert.deepEqual([played.body['changes'], played.body['changed_paths']], [null, []]);
      assert.equal(played.body['permission_denials'][0].tool, 'Write');
    }
  });
});

test('metadata is kept with the conversation', async () => {
  const metadata = { team: 'gärten', ticket: '12' };
  const { body } = await query(service, { prompt: scripted(said), metadata, timeout });
  const [row] = rows(service, 'select metadata from conversations where id = ?', body['session_id']);
  assert.deepEqual(JSON.parse(row?.['metadata']), metadata);
});
