import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SallyportError } from './errors.ts';

test('a disk that is full, read-only or broken is told as one that takes nothing, and anything else as nothing of ours', () => {
  const codeOf = (code: string) => SallyportError.from(Object.assign(new Error(code), { code })).code;
  assert.deepEqual(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'ENOENT', 'EACCES'].map(codeOf), [
    'storage_full',
    'storage_full',
    'storage_full',
    'storage_full',
    'internal',
    'internal',
  ]);
  const error = new SallyportError('gone');
  assert.equal(SallyportError.from(error), error);
  assert.equal(SallyportError.from('text').code, 'internal');
});
