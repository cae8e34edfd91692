import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Operation } from '@sallyport/protocol';
import fastify from 'fastify';
import { z } from 'zod';
import { addOperations, RouteBook } from './routes.ts';

const operation = (id: string, path = `/${id}`): Operation => ({
  id,
  method: 'GET',
  path,
  summary: id,
  description: id,
  right: 'public',
  response: { status: 200, type: 'application/json', schema: z.unknown(), text: id },
  errors: [],
});

test('an operation without a handler and a handler without an operation stop the start', () => {
  const table = { a: operation('a'), toString: operation('toString') };
  assert.throws(() => addOperations(fastify(), table, { a: () => 1 }), /operation toString has no handler/);
  assert.throws(
    () => addOperations(fastify(), { a: operation('a') }, { a: () => 1, b: () => 2 }),
    /handlers without an operation: b/,
  );
});

test('the last part of a path may take slashes, and comes under its own name', async () => {
  const app = fastify();
  const book = new RouteBook(app);
  const params = z.strictObject({ id: z.string(), path: z.string() });
  const table = {
    file: { ...operation('file', '/c/{id}/files/{path...}'), params },
    zip: operation('zip', '/c/{id}/files.zip'),
    list: operation('list', '/c/{id}/files'),
  };
  app.decorateRequest('principal', null);
  const handlers = { file: ({ params: given }: { params: unknown }) => given, zip: () => 'zip', list: () => 'list' };
  addOperations(app, table, handlers);
  await app.ready();
  for (const [url, path] of [
    ['/c/1/files/a', 'a'],
    ['/c/1/files/a/b%2Fc', 'a/b/c'],
    ['/c/1/files/', ''],
  ] as const) {
    assert.deepEqual((await app.inject({ url })).json(), { id: '1', path });
    assert.deepEqual(book.methodsAt(url), ['GET', 'HEAD'], url);
  }
  assert.equal((await app.inject({ url: '/c/1/files.zip' })).body, 'zip');
  assert.equal((await app.inject({ url: '/c/1/files' })).body, 'list');
  for (const url of ['/c/1/filesx', '/c/1/2/files/a', '/c//files/a']) assert.deepEqual(book.methodsAt(url), []);
});

test('a route that no operation declares stops the start', async () => {
  const app = fastify();
  const book = new RouteBook(app);
  addOperations(app, { a: operation('a') }, { a: () => ({}) });
  await app.register(async (scope) => {
    scope.get('/hidden', () => 'x');
  });
  await app.ready();
  assert.throws(() => book.check(), /routes without a declared right: \/hidden, \/hidden/);
});

test('the methods of an address are those of the routes that match it', async () => {
  const app = fastify();
  const book = new RouteBook(app);
  const table = {
    one: operation('one', '/c/{id}/info'),
    two: { ...operation('two', '/c/{id}/info'), method: 'DELETE' as const },
    dots: operation('dots', '/a.b'),
  };
  addOperations(app, table, { one: () => 1, two: () => 2, dots: () => 3 });
  app.get('/files/*', { config: { documentation: true } }, () => 4);
  await app.ready();
  assert.deepEqual(book.methodsAt('/c/x/info'), ['DELETE', 'GET', 'HEAD']);
  assert.deepEqual(book.methodsAt('/files/a/b'), ['GET', 'HEAD']);
  for (const path of ['/c/x/y/info', '/c//info', '/axb', '/c/x/info/', '']) assert.deepEqual(book.methodsAt(path), []);
});
