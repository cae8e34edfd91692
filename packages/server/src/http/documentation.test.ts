import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openApiDocument } from '@sallyport/protocol';
import { testApp } from './testing.ts';

test('the description is served as it is generated, without a key', async () => {
  const { app } = await testApp();
  for (const url of ['/openapi.json', '/docs/json']) {
    const answer = await app.inject({ url });
    assert.equal(answer.statusCode, 200);
    assert.deepEqual(answer.json(), JSON.parse(JSON.stringify(openApiDocument('1.2.3'))));
  }
  await app.close();
});

test('the pages load everything from the service itself and run no inline script', async () => {
  const { app } = await testApp();
  for (const page of ['/docs', '/docs/']) {
    const { body, headers, statusCode } = await app.inject({ url: page });
    assert.equal(statusCode, 200);
    assert.match(String(headers['content-security-policy']), /script-src 'self';/);
    assert.doesNotMatch(String(headers['content-security-policy']), /unsafe|https?:|\*/);
    assert.doesNotMatch(body, /https?:\/\/|<script>|<style|\son\w+=|\sstyle=/);
    const assets = [...body.matchAll(/(?:src|href)="([^"]+)"/g)].map(
      ([, asset = '']) => new URL(asset, `http://localhost${page}`).pathname,
    );
    assert.ok(assets.length >= 5);
    for (const asset of assets) {
      const answer = await app.inject({ url: asset });
      assert.equal(answer.statusCode, 200, asset);
      const type = String(answer.headers['content-type']);
      if (asset.endsWith('.js')) assert.match(type, /javascript/);
      if (asset.endsWith('.css')) assert.match(type, /text\/css/);
    }
  }
  const start = await app.inject({ url: '/docs/static/swagger-initializer.js' });
  assert.doesNotMatch(start.body, /https?:\/\/(?!stackoverflow)/);
  await app.close();
});

test('no file beside the pages can be reached through them', async () => {
  const { app } = await testApp();
  for (const path of [
    '../package.json',
    '..%2fpackage.json',
    '%2e%2e/package.json',
    '..%5cpackage.json',
    '....//package.json',
    '%00',
  ]) {
    const answer = await app.inject({ url: `/docs/static/${path}` });
    assert.ok([400, 403, 404].includes(answer.statusCode), `${path}: ${answer.statusCode}`);
    assert.match(answer.body, /"code":"/);
    assert.doesNotMatch(answer.body, /node_modules|swagger-ui"/);
  }
  await app.close();
});
