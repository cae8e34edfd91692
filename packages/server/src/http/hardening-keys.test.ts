import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { bearer, exchange, listen, roles, secretOf, testApp } from './testing.ts';

const limit = { timeout: 120_000 };
const secret = secretOf('admin');
const bytes = (...codes: number[]): string => String.fromCharCode(...codes);

/** What no key is, one character for each byte. */
const values: Readonly<Record<string, string>> = {
  'no letters of ASCII': `Bearer ${Buffer.from('schlüssel-ключ-🎈').toString('latin1')}`,
  'letters of Latin-1': 'Bearer schl\u00fcssel',
  'bytes that are no UTF-8': `Bearer ${bytes(0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x80)}`,
  'every byte that a header may hold': `Bearer ${bytes(...Array.from({ length: 223 }, (_, at) => at + 33).filter((code) => code !== 127))}`,
  'a key with a byte more': `Bearer ${secret}\u00ff`,
  'a key after a byte that is no space': `Bearer \u00a0${secret}`,
  'a space of Latin-1 instead of one': `Bearer\u00a0${secret}`,
  'a key that is very long': `Bearer ${'x'.repeat(15_000)}`,
  'a key and more of it': `Bearer ${secret}${'x'.repeat(15_000)}`,
  'a key many times': `Bearer ${secret.repeat(500)}`,
  'spaces without end': `Bearer ${' '.repeat(15_000)}x`,
  'spaces in a key': `Bearer ${'x '.repeat(7_000)}`,
  'a tab instead of a space': `Bearer\t${secret}`,
  'a tab beside the space': `Bearer \t${secret}`,
  'tabs without end': `Bearer${'\t'.repeat(15_000)}${secret}`,
  'a tab in a key': `Bearer ${secret}\tx`,
  'two keys': `Bearer ${secret}, Bearer ${secret}`,
  'two schemes': `Basic x, Bearer ${secret}`,
  'a scheme twice': `Bearer Bearer ${secret}`,
  'another scheme': `Basic ${Buffer.from(`admin:${secret}`).toString('base64')}`,
  'a key in quotes': `Bearer "${secret}"`,
  'a key as a parameter': `Bearer realm=${secret}`,
  'an escaped key': `Bearer ${secret.replaceAll('-', '%2d')}`,
  'the hash of a key': `Bearer ${createHash('sha256').update(secret).digest('hex')}`,
  'another case': `Bearer ${secret.toUpperCase()}`,
  'the names of everything': 'Bearer __proto__',
  'a constructor': 'Bearer constructor',
  'nothing of JavaScript': 'Bearer undefined',
  null: 'Bearer null',
  'an object': 'Bearer [object Object]',
  'a template': `Bearer \${process.env.CLAUDE_API_MASTER_KEY}`,
  'a pattern': 'Bearer .*',
  SQL: "Bearer ' or 1=1 --",
  'no space for SQL': "Bearer x'/**/or/**/'1'='1",
  'a star': 'Bearer *',
};

const request = (target: string, lines: readonly string[]): Buffer =>
  Buffer.from(`${[`GET ${target} HTTP/1.1`, 'Host: localhost', ...lines].join('\r\n')}\r\n\r\n`, 'latin1');
const upgrade = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
];

/** What takes a key, and how it is asked for. */
const doors: Readonly<Record<string, readonly [target: string, lines: readonly string[]]>> = {
  'a route': ['/api/claude/models', ['Connection: close']],
  'a route with an id': ['/api/claude/conversation/x/info', ['Connection: close']],
  'the events of a conversation': ['/api/claude/conversation/x/events', ['Connection: close']],
  'a route of admins': ['/api/admin/audit', ['Connection: close']],
  'a socket': ['/ws/a', upgrade],
};

for (const [door, [target, lines]] of Object.entries(doors)) {
  test(`${door}: whatever bytes are sent as a key, they are a 401 and nothing else`, limit, async () => {
    const { app, engine, log } = await testApp();
    const port = await listen(app);
    for (const [what, value] of Object.entries(values)) {
      const answer = await exchange(port, request(target, [`Authorization: ${value}`, ...lines]));
      assert.match(
        answer,
        /^HTTP\/1\.1 401 [^]*\r\nwww-authenticate: Bearer\r\n[^]*"code":"(unauthenticated|invalid_key)"/i,
        what,
      );
      assert.ok(!answer.includes(secret), what);
    }
    for (const [what, broken] of Object.entries({
      'a NUL': `Authorization: Bearer ${secret}\0`,
      'a NUL in front': `Authorization: Bearer \0${secret}`,
      'a bell': `Authorization: Bearer ${secret}\x07`,
      'a DEL': `Authorization: Bearer ${secret}\x7f`,
      'a bare CR': `Authorization: Bearer ${secret}\r`,
      'a folded line': `Authorization: Bearer\r\n ${secret}`,
      'a space before the colon': `Authorization : Bearer ${secret}`,
      'more than headers may be': `Authorization: Bearer ${'x'.repeat(20_000)}`,
    })) {
      const answer = await exchange(port, request(target, [broken, ...lines]));
      assert.match(answer, /^HTTP\/1\.1 (400|401|431) /, what);
    }
    for (const twice of [
      [`Authorization: Bearer ${secret}`, `Authorization: Bearer ${secret}`],
      [`Authorization: Bearer ${secret}`, 'authorization: Bearer x'],
      ['AUTHORIZATION: Bearer x', `Authorization: Bearer ${secret}`],
      ['Authorization:', `Authorization: Bearer ${secret}`],
    ]) {
      assert.match(await exchange(port, request(target, [...twice, ...lines])), /^HTTP\/1\.1 401 /);
    }
    assert.equal(engine.calls.length + engine.asked.length + engine.modelCalls, 0);
    assert.equal(app.sockets.size, 0);
    const text = JSON.stringify(log);
    assert.ok(!text.includes(secret) && log.every((line) => Number(line['level']) < 50));
    await app.close();
  });
}

test('no text is a ticket, however it is written', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const texts = [
    'ticket=x',
    `ticket=${secret}`,
    'ticket=%00',
    'ticket=%ff%fe',
    'ticket=%',
    'ticket=__proto__',
    "ticket='--",
    `ticket=${'x'.repeat(8_000)}`,
    'ticket=x&ticket=y',
    'ticket[]=x',
    'ticket[0]=x',
    'ticket.x=y',
    '__proto__[ticket]=x',
    'Ticket=x',
    'ticket',
    'ticket=',
    'ticket=null',
    '&=&ticket&&',
  ];
  for (const text of texts) {
    for (const [target, lines] of [
      [`/api/claude/conversation/x/events?${text}`, ['Connection: close']],
      [`/ws/a?${text}`, upgrade],
      [`/api/claude/ws/a?${text}`, upgrade],
    ] as const) {
      assert.match(await exchange(port, request(target, lines)), /^HTTP\/1\.1 401 /, target.slice(0, 60));
    }
  }
  assert.deepEqual([engine.asked.length, app.sockets.size], [0, 0]);
  await app.close();
});

test('whatever bytes follow the scheme, only a key of the ring is let in', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const secrets = roles.map(secretOf);
  const byte = fc.integer({ min: 1, max: 255 }).filter((code) => code !== 10 && code !== 13);
  const raw = fc.array(byte, { maxLength: 200 }).map((codes) => bytes(...codes));
  const near = fc
    .tuple(fc.constantFrom(...secrets), fc.nat(20), raw)
    .map(([text, at, more]) => text.slice(0, at) + more);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('Bearer ', 'bearer ', 'Bearer', 'Bearer\t', ' Bearer ', ''),
      fc.oneof(raw, near).filter((text) => !secrets.includes(text.trim())),
      async (scheme, text) => {
        const answer = await exchange(
          port,
          request('/api/claude/models', [`Authorization: ${scheme}${text}`, 'Connection: close']),
        );
        assert.match(answer, /^HTTP\/1\.1 (400|401) [^]*x-request-id: /i);
      },
    ),
    {
      numRuns: 300,
      examples: [
        ['Bearer ', '\u00a0'],
        ['Bearer ', `${secretOf('admin')}\u0080`],
        ['Bearer\t', secretOf('admin').slice(1)],
      ],
    },
  );
  assert.equal(engine.modelCalls, 0);
  const good = await exchange(
    port,
    request('/api/claude/models', [`Authorization: ${bearer('user')['authorization']}`, 'Connection: close']),
  );
  assert.match(good, /^HTTP\/1\.1 200 /);
  await app.close();
});
