import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { admin, administer, makeKey } from '../support/admin.ts';
import { restartable } from '../support/restart.ts';
import { masterKey, upstreamKey, userKey } from '../support/service.ts';

/** A prompt that must be in no log. */
const prompt = 'prompt-canary-5d1f: what do you know?';

/** The bytes of every file below a directory. */
async function bytesBelow(directory: string): Promise<string> {
  const files = await readdir(directory, { recursive: true, withFileTypes: true });
  const texts = files
    .filter((file) => file.isFile())
    .map((file) => readFile(join(file.parentPath, file.name), 'latin1').catch(() => ''));
  return (await Promise.all(texts)).join('\n');
}

test(
  'no secret gets into a log, an answer, an event or the data directory, whoever plants it where',
  { timeout: 120_000 },
  async (context) => {
    const service = await restartable(context, { env: { SALLYPORT_LOG_LEVEL: 'trace' } });
    const stored = await makeKey(service, { name: 'stored' });
    const rotated = (await administer(service, 'POST', 'tenants/default/keys/stored/rotate', {}))['secret'] as string;
    const secrets = [upstreamKey, masterKey, userKey, stored, rotated];
    const answers: string[] = [];
    const ask = async (path: string, init: RequestInit = {}): Promise<{ status: number; text: string }> => {
      const response = await fetch(`${service.url}${path}`, init);
      const text = await response.text();
      answers.push(text, JSON.stringify([...response.headers]));
      return { status: response.status, text };
    };
    const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
    const json = (key: string, body: unknown): RequestInit => ({
      method: 'POST',
      headers: { ...bearer(key), 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });

    for (const secret of secrets) {
      await ask(`/api/claude/models?key=${secret}`);
      await ask(`/api/claude/conversation/${secret}/info`, { headers: bearer(userKey) });
      await ask(`/${secret}`, { headers: { authorization: secret, cookie: `key=${secret}`, 'x-api-key': secret } });
      await ask('/api/claude/models', { headers: { ...bearer(`${secret}x`), referer: `https://x/?${secret}` } });
      await ask('/api/claude/query', { ...json(userKey, {}), body: `{"prompt": ${secret}` });
      await ask('/api/claude/query', json(userKey, { prompt: 'x', project_path: `/${secret}`, model: secret }));
      await ask('/api/claude/query', json(userKey, { prompt: 'x', allowed_tools: [secret] }));
      await admin(service, 'POST', 'tenants', { id: 'x', secret });
      // Whoever names a field or a request so gets the own words back; the logs are another matter.
      await fetch(`${service.url}/api/claude/query`, json(userKey, { prompt: 'x', [secret]: secret }));
      await fetch(`${service.url}/api/claude/models`, { headers: { ...bearer(userKey), 'x-request-id': secret } });
    }
    const { ticket } = JSON.parse(
      (await ask('/api/claude/ws-ticket', { method: 'POST', headers: bearer(userKey) })).text,
    );
    answers.pop();
    answers.pop();
    const socket = new WebSocket(`${service.url.replace('http', 'ws')}/ws/label?ticket=${ticket}`);
    const frames: string[] = [];
    socket.on('message', (data: Buffer) => frames.push(data.toString()));
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send(JSON.stringify({ type: 'resume', session_id: masterKey.slice(0, 20) }));
    socket.send(`{"type": "${upstreamKey}"}`);
    await new Promise<void>((resolve) => {
      const look = () => (frames.length >= 2 ? resolve() : socket.once('message', look));
      look();
    });
    socket.terminate();

    const faults = [401, 403, 400, 500, 429].map((status) => ({
      fault: { kind: 'status' as const, status: status as 401, message: `no: ${upstreamKey} is not liked` },
    }));
    for (const step of faults) {
      service.simulator.play(() => step);
      await ask('/api/claude/query', json(userKey, { prompt, timeout: 30 }));
      await ask('/api/claude/stream', json(rotated, { prompt, timeout: 30 }));
    }
    service.simulator.play({
      steps: [{ tools: [{ name: 'Read', input: { file_path: '/workspace/none' } }] }, { text: 'No.' }],
    });
    const whole = await ask('/api/claude/stream', json(stored, { prompt }));
    assert.match(whole.text, /\[DONE\]/u);
    const former = service.program;
    await service.killAndRestart();
    await ask('/api/claude/conversation?kind=query', { headers: bearer(userKey) });

    const logs = former.output() + service.program.output();
    assert.match(logs, /request failed|model call failed/u);
    for (const secret of [...secrets, ticket as string]) {
      assert.ok(!answers.join('\n').includes(secret), `an answer holds ${secret.slice(0, 12)}`);
      assert.ok(!frames.join('\n').includes(secret), `a frame holds ${secret.slice(0, 12)}`);
      assert.ok(!logs.includes(secret), `a log holds ${secret.slice(0, 12)}`);
      assert.ok(!(await bytesBelow(service.dataDir)).includes(secret), `a file holds ${secret.slice(0, 12)}`);
    }
    assert.ok(!logs.includes('prompt-canary'), 'prompts are not logged');
  },
);
