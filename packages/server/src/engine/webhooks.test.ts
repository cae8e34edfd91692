import { deepStrictEqual, match, ok, rejects, strictEqual, throws } from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { webhookBody } from '@sallyport/protocol';
import { SallyportError } from './errors.ts';
import { newWebhookSecret } from './ids.ts';
import { createSecretBox, openSecrets, signedHeaders } from './webhook-secrets.ts';
import { checkWebhook, mostBodyBytes, newDelivery } from './webhooks.ts';

const at = Date.UTC(2030, 0, 2, 3, 4, 5);
const url = 'https://hooks.example.com/in';
const job = { job_id: 'job-1', status: 'completed', result: { success: true, text: 'Done.', messages: ['a'] } };
const box = (text = 'k'.repeat(32)) => createSecretBox(async () => text);

const bodyOf = (told: object) => {
  const { body } = newDelivery('default', url, { ...job, ...told }, at);
  ok(Buffer.byteLength(body) <= mostBodyBytes);
  const { data, type, timestamp } = webhookBody.parse(JSON.parse(body));
  deepStrictEqual([type, timestamp], ['job.completed', '2030-01-02T03:04:05.000Z']);
  return data;
};

test('a message tells of the job as its client reads it', () => {
  const { id, body, ...rest } = newDelivery(
    'default',
    'https://HOOKS.example.com/ü?a=b',
    { ...job, status: 'failed' },
    at,
  );
  match(id, /^hook-[0-9a-f]{32}$/u);
  deepStrictEqual(rest, {
    tenant: 'default',
    type: 'job.failed',
    job: 'job-1',
    url: 'https://hooks.example.com/%C3%BC?a=b',
    createdAt: at,
  });
  deepStrictEqual(JSON.parse(body), {
    type: 'job.failed',
    timestamp: '2030-01-02T03:04:05.000Z',
    data: { ...job, status: 'failed' },
  });
  throws(() => newDelivery('default', url, { ...job, status: 'running' }, at), /of which no webhook tells/);
});

test('a job that is too large is told without its messages, its result, or what else is long', () => {
  const { messages: _, ...result } = job.result;
  deepStrictEqual(bodyOf({}), job);
  const messages = ['é'.repeat(mostBodyBytes)];
  deepStrictEqual(bodyOf({ result: { ...result, messages } }), { ...job, result, truncated: true });
  deepStrictEqual(bodyOf({ result: { ...job.result, text: messages[0] } }), { ...job, result: null, truncated: true });
  const { result: gone, ...short } = job;
  ok(gone);
  deepStrictEqual(bodyOf({ result: { text: messages[0] }, error: messages[0] }), { ...short, truncated: true });
});

test('a webhook is refused where nothing could be sent or signed', async () => {
  const stored = { sealed: 'x', createdAt: 1, createdBy: 'admin', previous: null };
  const parts = (refusal: string | null, secrets: typeof stored | null) => ({
    webhookSender: { refusal: () => refusal },
    webhookSecrets: { get: async () => secrets },
  });
  await checkWebhook(parts(null, stored), 'default', url);
  const refused = new SallyportError('webhook_url_refused', { detail: 'The webhook address must be an https URL.' });
  await rejects(checkWebhook(parts('must be an https URL', null), 'default', url), refused);
  await rejects(checkWebhook(parts(null, null), 'default', url), { code: 'webhook_secret_missing' });
});

test('what is sealed opens with the same key for the same tenant, and not at all otherwise', async () => {
  const secret = newWebhookSecret();
  match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/u);
  const sealed = await box().seal('acme', secret);
  ok(!sealed.includes(secret.slice(6, 16)));
  strictEqual(await box().open('acme', sealed), secret);
  strictEqual((await box().seal('acme', secret)) === sealed, false);
  await rejects(box('j'.repeat(32)).open('acme', sealed));
  await rejects(box().open('other', sealed));
  for (const at of [5, Math.floor(sealed.length / 2), sealed.length - 6]) {
    const other = sealed[at] === 'A' ? 'B' : 'A';
    await rejects(box().open('acme', sealed.slice(0, at) + other + sealed.slice(at + 1)), `changed at ${at}`);
  }
  for (const broken of ['', 'v1.', secret, sealed.slice(0, -8), `v2${sealed.slice(2)}`]) {
    await rejects(box().open('acme', broken), broken);
  }
});

test('the previous secret signs until its time is over', async () => {
  const seal = (secret: string) => box().seal('acme', secret);
  const stored = {
    sealed: await seal('new'),
    createdAt: 1,
    createdBy: 'a',
    previous: { sealed: await seal('old'), until: 9 },
  };
  deepStrictEqual(await openSecrets(box(), 'acme', stored, 8), ['new', 'old']);
  deepStrictEqual(await openSecrets(box(), 'acme', stored, 9), ['new']);
  deepStrictEqual(await openSecrets(box(), 'acme', { ...stored, previous: null }, 8), ['new']);
});

test('a signature is that of Standard Webhooks, one for each secret', () => {
  // The example of the specification's own libraries.
  const known = signedHeaders(
    ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'],
    { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', body: '{"test": 2432232314}' },
    1_614_265_330_999,
  );
  deepStrictEqual(known, {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  });
  const secrets = [newWebhookSecret(), newWebhookSecret()];
  const signed = signedHeaders(secrets, { id: 'hook-1', body: '{"a":"é"}' }, 5000);
  const expected = secrets.map((secret) => {
    const hmac = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'base64'));
    return `v1,${hmac.update(Buffer.from('hook-1.5.{"a":"é"}')).digest('base64')}`;
  });
  strictEqual(signed['webhook-signature'], expected.join(' '));
});
