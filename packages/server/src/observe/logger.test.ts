import { deepStrictEqual, doesNotMatch, match, ok, strictEqual } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Fastify from 'fastify';
import { SallyportError } from '../engine/errors.ts';
import type { Log } from '../engine/ports.ts';
import { createLogger } from './logger.ts';
import { prettyLine } from './pretty.ts';

const canary = 'canary-"7f3a"\\with/odd characters?=%';
const canaries = [canary, 'CANARYplain0123456789', 'short'];

function aLogger() {
  const lines: string[] = [];
  const logger = createLogger({
    level: 'debug',
    secrets: canaries,
    destination: { write: (line) => void lines.push(line) },
  });
  const last = () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown>;
  return { logger, lines, last };
}

/** Neither the secrets nor pieces of them, in any spelling. */
function isClean(lines: readonly string[]): void {
  ok(lines.length > 0);
  for (const line of lines) doesNotMatch(line, /canary|7f3a/i);
}

test('a line is one line of JSON with level, time, message and data', () => {
  const { logger, lines, last } = aLogger();
  const log: Log = logger;
  log.warn({ turn: 'turn-1', count: 3, nested: { list: [1, null, true, 'x'] } }, 'two\nlines');
  match(lines[0] ?? '', /^\{[^\n]+\}\n$/);
  const { level, time, msg, turn, count, nested } = last();
  deepStrictEqual([level, msg, turn, count], [40, 'two\nlines', 'turn-1', 3]);
  deepStrictEqual(nested, { list: [1, null, true, 'x'] });
  strictEqual(typeof time, 'number');
  logger.trace({}, 'below the level');
  strictEqual(lines.length, 1);
});

test('configured secrets leave no line, wherever they stand', () => {
  const { logger, lines } = aLogger();
  const error = new Error(`failed with ${canary}`, { cause: new Error(`because of ${canary}`) });
  for (const secret of canaries.slice(0, 2)) {
    logger.info({ value: secret, text: `before ${secret} after ${secret}` }, `message ${secret}`);
    logger.info({ deep: [{ list: [secret, { [secret]: 1 }] }] }, 'x');
    logger.info({ json: JSON.stringify({ body: secret }), url: `/a?b=${encodeURIComponent(secret)}` }, 'x');
    logger
      .child({ bound: secret })
      .child({ more: `x${secret}` })
      .info('x');
    logger.info(`%s and %o`, secret, { secret });
    logger.error(new AggregateError([new Error(secret)], secret), secret);
    logger.error({ problem: new Error(secret, { cause: { why: secret } }) }, 'x');
  }
  logger.error({ err: error }, 'x');
  logger.error(error);
  isClean(lines);
  match(lines[0] ?? '', /"text":"before \[redacted\] after \[redacted\]"/);
});

test('a short secret is found where it stands alone, and takes nothing out of other words', () => {
  const { logger, last } = aLogger();
  logger.info({ value: 'short', text: 'a shortcut' }, 'x');
  deepStrictEqual([last()['value'], last()['text']], ['[redacted]', 'a shortcut']);
});

test('fields that are named like secrets are taken out, whatever they hold', () => {
  const { logger, lines, last } = aLogger();
  const names = [
    'authorization',
    'Authorization',
    'cookie',
    'set-cookie',
    'x-api-key',
    'apiKey',
    'api_key',
    'masterKey',
  ];
  names.push(
    'key',
    'keys',
    'clientSecret',
    'secret',
    'secrets',
    'access_token',
    'token',
    'password',
    'passphrase',
    'credentials',
  );
  for (const name of names) {
    logger.info({ [name]: 'canary', headers: { [name]: ['canary'] }, deep: [{ [name]: { x: 'canary' } }] }, 'x');
    strictEqual(last()[name], '[redacted]', name);
  }
  isClean(lines);
  logger.info({ input_tokens: 5, tokens_used: 7, token: null, keyboard: 'x', tokens: 12 }, 'x');
  const { input_tokens, tokens_used, token, keyboard, tokens } = last();
  deepStrictEqual([input_tokens, tokens_used, token, keyboard, tokens], [5, 7, null, 'x', 12]);
});

test('secrets nobody configured are known by their form', () => {
  const { logger, lines } = aLogger();
  logger.info({ text: 'curl -H "Authorization: Bearer canary0canary0"' }, 'key sk-ant-api03-canary_canary');
  logger.info({ text: `admin sallyport_${'canary'.repeat(6)}` }, 'basic Basic Y2FuYXJ5OmNhbmFyeQ==canary');
  isClean(lines);
});

test('errors keep kind, message, code, stack and causes, and no other field', () => {
  const { logger, last } = aLogger();
  const cause = Object.assign(new TypeError('inner'), { code: 'ENOSPC', request: { body: 'canary' } });
  logger.error({ err: new SallyportError('storage_full', { cause }), other: cause }, 'failed');
  const err = last()['err'] as Record<string, unknown>;
  deepStrictEqual([err['type'], err['code']], ['SallyportError', 'storage_full']);
  match(String(err['message']), /^storage_full: /);
  match(String(err['stack']), /logger\.test\.ts/);
  const inner = err['cause'] as Record<string, unknown>;
  deepStrictEqual(Object.keys(inner), ['type', 'message', 'code', 'stack']);
  deepStrictEqual([inner['type'], inner['message'], inner['code']], ['TypeError', 'inner', 'ENOSPC']);
  deepStrictEqual(last()['other'], inner);
});

test('circles, endless causes, and names of prototypes do no harm', () => {
  const { logger, lines, last } = aLogger();
  const circle: Record<string, unknown> = { name: 'circle' };
  circle['self'] = circle;
  const error = new Error('endless');
  error.cause = error;
  logger.info({ circle, big: 10n, none: undefined, do() {} }, 'x');
  logger.error({ err: error }, 'x');
  logger.info(JSON.parse('{"__proto__": {"polluted": true}}') as object, 'x');
  strictEqual(lines.length, 3);
  for (const line of lines) JSON.parse(line);
  strictEqual(last()['polluted'], undefined);
  strictEqual(({} as Record<string, unknown>)['polluted'], undefined);
});

test('Fastify takes it, and no header or key of a request is logged', async () => {
  const { logger, lines } = aLogger();
  const app = Fastify({ loggerInstance: logger });
  app.get('/x', async (request) => {
    request.log.info({ headers: request.headers, req: request }, 'handling');
    throw new Error(`failed for ${canary}`);
  });
  const headers = { authorization: `Bearer ${canaries[1]}`, cookie: 'id=canary', 'x-api-key': 'canary' };
  const response = await app.inject({ method: 'GET', url: `/x?ticket=${canaries[1]}`, headers });
  strictEqual(response.statusCode, 500);
  await app.close();
  isClean(lines);
  ok(lines.some((line) => line.includes('"reqId"') && line.includes('"stack"') && line.includes('failed for')));
});

test('a standard output that is full does not stop the process', () => {
  const program = `
    const { createLogger } = await import(${JSON.stringify(join(import.meta.dirname, 'logger.ts'))});
    const logger = createLogger({ level: 'info' });
    for (let line = 0; line < 5000; line += 1) logger.info({ text: 'x'.repeat(1000) }, 'x');
    setImmediate(() => process.stderr.write('still here'));
  `;
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
    encoding: 'utf8',
    env: {},
  });
  deepStrictEqual([status, stderr], [0, 'still here']);
});

test('for humans a record is one line that cannot play with the terminal', () => {
  const { logger, last } = aLogger();
  const cause = new Error('inner\nline');
  logger.error(
    { turn: 'turn-1', path: '\u001b[2J\u009b x', count: 2, err: new Error('outer', { cause }) },
    'a\r\nb\u202e',
  );
  const line = prettyLine({ ...last(), time: Date.UTC(2026, 0, 1, 12, 3, 4) });
  strictEqual(
    line,
    '12:03:04 ERROR a\\u000d\\u000ab\\u202e turn=turn-1 path="\\u001b[2J\\u009b x" count=2 err="outer (because: inner\\nline)"',
  );
});
