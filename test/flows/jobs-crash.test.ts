import assert from 'node:assert/strict';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { call } from '../support/approvals.ts';
import { queueJob } from '../support/jobs.ts';
import { restartable, type Restartable } from '../support/restart.ts';
import { callsWith, inBatches, rows, scripted, until } from '../support/runs.ts';

/** How many jobs there are, and how often the service is killed meanwhile; `SALLYPORT_TEST_JOBS=1000` for a long run. */
const count = Number(process.env['SALLYPORT_TEST_JOBS'] ?? 16);
const kills = 2;

const wordOf = (index: number) => `crash-job-${index}-`;

/** Every eighth one runs a command that can be seen to have run. */
const hasTool = (index: number) => index % 8 === 0;

function jobWith(index: number, project: string) {
  const text = 'One word after the other, slowly. ';
  if (!hasTool(index)) return { request: { prompt: scripted([{ text, rate: 60 }], wordOf(index)) } };
  const tools = [{ name: 'Bash', input: { command: `echo ran >> ran-${index}; sleep 0.2` } }];
  const prompt = scripted(
    [
      { text, rate: 60, tools },
      { text, rate: 60 },
    ],
    wordOf(index),
  );
  const mode = { permission_mode: 'acceptEdits', allowed_tools: ['Bash'], project_path: project };
  return { request: { prompt, ...mode } };
}

const statuses = (service: Restartable): Record<string, number> =>
  Object.fromEntries(
    rows(service, 'select status, count(*) as n from jobs group by status').map((row) => [row['status'], row['n']]),
  );

test(
  'killed again and again, the service loses no job and runs none twice',
  { timeout: 240_000 + count * 2_000 },
  async (context) => {
    const service = await restartable(context, { env: { SALLYPORT_JOBS_AT_ONCE: '4' } });
    const project = join(service.root, 'project');
    await mkdir(project);
    await chmod(project, 0o777);
    const indexes = Array.from({ length: count }, (_, index) => index);
    await inBatches(8, indexes, (index) => queueJob(service, jobWith(index, project)));
    for (let kill = 1; kill <= kills; kill += 1) {
      const due = Math.floor((count * kill) / (kills + 2));
      await until(() => (statuses(service)['running'] ?? 0) > 0 && callsWith(service, 'crash-job-').length >= due);
      await service.kill();
      const at = statuses(service);
      context.diagnostic(`killed with ${JSON.stringify(at)}`);
      await service.start();
    }
    await until(() => (statuses(service)['queued'] ?? 0) + (statuses(service)['running'] ?? 0) === 0);
    const lost: string[] = [];
    for (const index of indexes) {
      const turns = rows(service, 'select state, ended_at from turns where instr(request, ?) > 0', wordOf(index));
      assert.equal(turns.length, 1, `job ${index} has run ${turns.length} times`);
      const [job] = rows(
        service,
        'select id, status, error, attempt from jobs where instr(request, ?) > 0',
        wordOf(index),
      );
      const ends = rows(service, "select seq from audit where action = 'job.end' and subject = ?", job?.['id']);
      assert.equal(ends.length, 1, `job ${index} has ended ${ends.length} times`);
      if (job?.['status'] !== 'completed') lost.push(`${index}: ${job?.['status']} ${job?.['error']}`);
      if (!hasTool(index)) continue;
      const ran = await readFile(join(project, `ran-${index}`), 'utf8').catch(() => '');
      assert.ok(ran === '' || ran === 'ran\n', `job ${index}: ${JSON.stringify(ran)}`);
    }
    context.diagnostic(`not completed: ${lost.join('; ')}`);
    // Only a command that may have run when its process was lost is not done again, and fails its job.
    assert.ok(
      lost.every((line) => hasTool(Number.parseInt(line, 10))),
      lost.join('; '),
    );
    const { body } = await call(service, 'GET', 'jobs?status=completed&limit=200');
    assert.equal(body['items'].length, Math.min(200, count - lost.length));
  },
);
