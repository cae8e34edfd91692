import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { call, decide, logAtRest, pendingIn } from '../support/approvals.ts';
import { scripted } from '../support/runs.ts';
import { startService, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

const steps = scripted(
  ['first', 'second'].map((name) => ({
    tools: [{ id: 'toolu_again', name: 'Write', input: { file_path: `/workspace/${name}.txt`, content: name } }],
  })),
);

for (const permission_mode of ['acceptEdits', 'askForEdits']) {
  test(`an upstream that repeats the id of a call has nothing run under it again in ${permission_mode}`, async () => {
    const id = `again-${permission_mode}`;
    const answer = call(service, 'POST', `conversation/start?session_id=${id}`, { prompt: steps, permission_mode });
    if (permission_mode === 'askForEdits') await decide(service, await pendingIn(service, id), { decision: 'allow' });
    const { status, body: said } = await answer;
    assert.deepEqual([status, said['tools_used'][0]], [200, 'Write'], 'what was made stays told');
    const log = await logAtRest(service, id);
    const starts = log.filter(({ type, tool_use_id }) => type === 'tool_start' && tool_use_id === 'toolu_again');
    assert.deepEqual(
      starts.map(({ input }) => input.content),
      ['first'],
    );
    const after = log.filter(({ tool_use_id, type }) => tool_use_id === 'toolu_again' && type === 'tool_end');
    assert.deepEqual(
      after.map(({ ok }) => ok),
      [true],
    );
    const { body } = await call(service, 'GET', `conversation/${id}/files`);
    assert.deepEqual(
      body['items'].map((item: { path: string }) => item.path),
      ['first.txt'],
    );
    const { items } = (await call(service, 'GET', 'approvals')).body;
    assert.ok(items.filter((item: { session_id: string }) => item.session_id === id).length <= 1);
  });
}
