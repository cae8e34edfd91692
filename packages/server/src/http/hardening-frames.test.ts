import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { serverFrame } from '@sallyport/protocol';
import fc from 'fast-check';
import { openSocket } from './socket-support.ts';
import { eventually, listen, secretOf, testApp } from './testing.ts';

const limit = { timeout: 120_000 };
const maxBytes = 100_000;
const text = 1;
const binary = 2;
const close = 8;
const ping = 9;
const pong = 10;

interface Frame {
  readonly opcode: number;
  readonly payload?: string | Buffer;
  readonly fin?: boolean;
  /** Bits 1 to 3 that nothing has a meaning for. */
  readonly rsv?: number;
  readonly masked?: boolean;
  /** What is said of the length, where it is not that of the payload. */
  readonly length?: bigint;
}

/** A frame as a client sends it. */
function frame({ opcode, payload = '', fin = true, rsv = 0, masked = true, length }: Frame): Buffer {
  const bytes = Buffer.from(payload);
  const said = length ?? BigInt(bytes.length);
  const [short, rest] = said < 126n ? [Number(said), 0] : said < 65_536n ? [126, 2] : [127, 8];
  const head = Buffer.alloc(2 + rest);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (masked ? 0x80 : 0) | short;
  if (rest === 2) head.writeUInt16BE(Number(said), 2);
  if (rest === 8) head.writeBigUInt64BE(said, 2);
  const mask = Buffer.from([1, 2, 3, 4]);
  if (!masked) return Buffer.concat([head, bytes]);
  return Buffer.concat([head, mask, bytes.map((byte, at) => byte ^ (mask[at % 4] ?? 0))]);
}

const start = Buffer.from(
  [
    'GET /ws/a HTTP/1.1',
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    `Authorization: Bearer ${secretOf('user')}`,
    '\r\n',
  ].join('\r\n'),
);

/** A connection that became a socket, and all that came over it since. */
interface Raw {
  readonly socket: Socket;
  readonly received: () => Buffer;
  readonly closed: Promise<unknown>;
}

async function open(port: number): Promise<Raw> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  let received = Buffer.alloc(0);
  socket.on('data', (bytes: Buffer) => (received = Buffer.concat([received, bytes])));
  socket.write(start);
  await eventually(() => received.includes('\r\n\r\n'));
  assert.match(received.toString('latin1'), /^HTTP\/1\.1 101 /);
  received = received.subarray(received.indexOf('\r\n\r\n') + 4);
  return { socket, received: () => received, closed };
}

/** The frames of the server in the bytes, each held to its schema; one that is not whole yet is left out. */
function framesIn(bytes: Buffer): { opcode: number; payload: Buffer }[] {
  const frames: { opcode: number; payload: Buffer }[] = [];
  for (let at = 0; at + 2 <= bytes.length;) {
    const [first = 0, second = 0] = bytes.subarray(at);
    const size = second < 126 ? 0 : second === 126 ? 2 : 8;
    if (at + 2 + size > bytes.length) break;
    const length =
      size === 0 ? second : size === 2 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
    const payload = bytes.subarray(at + 2 + size, at + 2 + size + length);
    if (payload.length < length) break;
    const opcode = first & 0x0f;
    assert.equal(first & 0xf0, 0x80);
    assert.ok([text, close, ping, pong].includes(opcode));
    if (opcode === text) serverFrame.parse(JSON.parse(payload.toString()));
    frames.push({ opcode, payload });
    at += 2 + size + length;
  }
  return frames;
}

const codeIn = (bytes: Buffer): number | undefined =>
  framesIn(bytes)
    .find(({ opcode }) => opcode === close)
    ?.payload.readUInt16BE(0);

const ask = '{"type":"ping"}';
const half = ask.length / 2;
const closing = (code: number, reason: string | Buffer = '') =>
  Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)]);

/** What breaks the protocol, and the code that a socket is closed with for it. */
const broken: readonly [what: string, code: number, bytes: readonly Buffer[]][] = [
  ...[1, 2, 3, 4, 5, 6, 7].map((rsv): [string, number, Buffer[]] => [
    `the bits ${rsv}`,
    1002,
    [frame({ opcode: text, rsv, payload: ask })],
  ]),
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode): [string, number, Buffer[]] => [
    `the code ${opcode}`,
    1002,
    [frame({ opcode, payload: ask })],
  ]),
  ...[text, binary, close, ping, pong].map((opcode): [string, number, Buffer[]] => [
    `${opcode} without a mask`,
    1002,
    [frame({ opcode, masked: false, payload: opcode === close ? closing(1000) : 'x' })],
  ]),
  ...[close, ping, pong].flatMap((opcode): [string, number, Buffer[]][] => [
    [`${opcode} in pieces`, 1002, [frame({ opcode, fin: false })]],
    [`${opcode} that is too long`, 1002, [frame({ opcode, payload: 'x'.repeat(126) })]],
  ]),
  ...[0, 999, 1004, 1005, 1006, 1016, 2999, 5000, 65_535].map((code): [string, number, Buffer[]] => [
    `a close with ${code}`,
    1002,
    [frame({ opcode: close, payload: closing(code) })],
  ]),
  ['a close with half a code', 1002, [frame({ opcode: close, payload: 'x' })]],
  ['a close whose reason is no UTF-8', 1007, [frame({ opcode: close, payload: closing(1000, Buffer.from([0xff])) })]],
  ['a piece of nothing', 1002, [frame({ opcode: 0, payload: ask })]],
  ['a message in a message', 1002, [frame({ opcode: text, fin: false }), frame({ opcode: text, payload: ask })]],
  ['a length beyond all', 1009, [frame({ opcode: text, length: 2n ** 64n - 1n })]],
  ['a length that no number has', 1009, [frame({ opcode: text, length: 2n ** 53n + 1n })]],
  ['a length over the limit', 1009, [frame({ opcode: text, length: BigInt(maxBytes + 1) })]],
  [
    'pieces over the limit together',
    1009,
    Array.from({ length: 11 }, (_, at) =>
      frame({ opcode: at === 0 ? text : 0, fin: false, payload: 'x'.repeat(maxBytes / 10) }),
    ),
  ],
  [
    'pieces without end',
    1008,
    Array.from({ length: 20_000 }, (_, at) => frame({ opcode: at === 0 ? text : 0, fin: false, payload: '' })),
  ],
  ['text that is no UTF-8', 1007, [frame({ opcode: text, payload: Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]) })]],
  [
    'a letter that ends before its end',
    1007,
    [
      frame({ opcode: text, fin: false, payload: Buffer.from([0x22, 0xc3]) }),
      frame({ opcode: 0, payload: Buffer.from([0x22]) }),
    ],
  ],
  ['a binary message in pieces', 1003, [frame({ opcode: binary, fin: false }), frame({ opcode: 0, payload: ask })]],
];

test('what breaks the protocol closes its socket with the right code, and no other', limit, async () => {
  const { app, engine, log } = await testApp({ maxBodyBytes: maxBytes });
  const port = await listen(app);
  const other = await openSocket(port);
  const after = frame({ opcode: text, payload: '{"type":"resume","session_id":"conv-1"}' });
  for (const [what, code, bytes] of broken) {
    const raw = await open(port);
    raw.socket.write(Buffer.concat([...bytes, after]));
    await raw.closed;
    assert.equal(codeIn(raw.received()), code, what);
    assert.deepEqual(await other.ping(), [], what);
  }
  assert.equal(engine.asked.length, 0, 'what came after it is not worked on');
  assert.ok(log.every((line) => Number(line['level']) < 50));
  other.socket.terminate();
  await eventually(() => app.sockets.size === 0);
  await app.close();
});

test('a message in pieces of any size, with pings between them, is one message', limit, async () => {
  const { app } = await testApp({ maxBodyBytes: maxBytes });
  const port = await listen(app);
  const letters = ask
    .split('')
    .map((letter, at) => frame({ opcode: at === 0 ? text : 0, fin: at === ask.length - 1, payload: letter }));
  const between = frame({ opcode: ping, payload: 'hello' });
  for (const bytes of [
    letters,
    letters.flatMap((letter) => [letter, between]),
    [frame({ opcode: text, fin: false }), frame({ opcode: 0, fin: false }), frame({ opcode: 0, payload: ask })],
    [frame({ opcode: text, fin: false, payload: ask.slice(0, half) }), frame({ opcode: 0, payload: ask.slice(half) })],
    Array.from(Buffer.concat(letters), (byte) => Buffer.from([byte])),
  ]) {
    const raw = await open(port);
    for (const piece of bytes) raw.socket.write(piece);
    const answers = () => framesIn(raw.received()).filter(({ opcode }) => opcode === text);
    await eventually(() => answers().length > 0);
    assert.deepEqual(
      answers().map(({ payload }) => payload.toString()),
      ['{"type":"pong"}'],
    );
    const pongs = framesIn(raw.received()).filter(({ opcode }) => opcode === pong);
    assert.ok(pongs.every(({ payload }) => payload.toString() === 'hello'));
    raw.socket.destroy();
  }
  await eventually(() => app.sockets.size === 0);
  await app.close();
});

test('pings are answered, a flood of them is cut, and nobody else is held up', limit, async () => {
  const { app } = await testApp({ heartbeatMs: 3_600_000 });
  const port = await listen(app);
  const other = await openSocket(port);
  const few = await open(port);
  for (let count = 1; count <= 200; count += 1) {
    few.socket.write(frame({ opcode: ping, payload: String(count) }));
    await eventually(() => framesIn(few.received()).length === count);
  }
  assert.equal(framesIn(few.received()).at(-1)?.payload.toString(), '200');
  const raw = await open(port);
  raw.socket.pause();
  const many = Buffer.concat(Array.from({ length: 1_000 }, () => frame({ opcode: ping, payload: 'x'.repeat(125) })));
  const closed = raw.closed.then(() => true);
  let cut = false;
  for (let batches = 0; !cut; batches += 1) {
    assert.ok(batches < 2_000, 'two million pings are taken');
    raw.socket.write(many);
    cut = await Promise.race([closed, new Promise<false>((resolve) => setImmediate(resolve, false))]);
    if (batches % 100 === 0) assert.deepEqual(await other.ping(), []);
  }
  await eventually(() => app.sockets.size === 2);
  few.socket.destroy();
  other.socket.terminate();
  await eventually(() => app.sockets.size === 0);
  await app.close();
});

const payloads = fc.oneof(
  fc.string().map((letters) => Buffer.from(letters)),
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom(ask, '{"type":"ping"', '{"type":"resume","session_id":"x","after":"1"}', '{"__proto__":{}}')
    .map((letters) => Buffer.from(letters)),
);
const frames = fc.record(
  {
    opcode: fc.oneof({ weight: 3, arbitrary: fc.constantFrom(0, text, text, text, ping, pong) }, fc.nat(15)),
    payload: payloads,
    fin: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.boolean()),
    rsv: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, fc.nat(7)),
    masked: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, fc.boolean()),
    length: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  },
  { requiredKeys: ['opcode'] },
);

test('whatever bytes come, every answer is a frame of the protocol and no other socket is touched', limit, async () => {
  const { app, log } = await testApp({ maxBodyBytes: maxBytes });
  const port = await listen(app);
  const other = await openSocket(port);
  await fc.assert(
    fc.asyncProperty(
      fc.array(frames, { maxLength: 12 }),
      fc.nat(400),
      fc.uint8Array({ maxLength: 20 }),
      async (all, cut, tail) => {
        const bytes = Buffer.concat(
          all.map(({ length, ...rest }) => frame({ ...rest, ...(length !== undefined && { length }) })),
        );
        const raw = await open(port);
        raw.socket.write(bytes.subarray(0, cut));
        raw.socket.write(bytes.subarray(cut));
        raw.socket.end(Buffer.from(tail));
        await raw.closed;
        framesIn(raw.received());
        assert.deepEqual(await other.ping(), []);
        await eventually(() => app.sockets.size === 1);
      },
    ),
    // Seeds that failed are kept here as they are.
    {
      numRuns: 400,
      examples: [
        [[{ opcode: 0 }], 1, new Uint8Array()],
        [[], 0, new Uint8Array([0x81])],
      ],
    },
  );
  assert.ok(log.every((line) => Number(line['level']) < 50));
  other.socket.terminate();
  await app.close();
});
