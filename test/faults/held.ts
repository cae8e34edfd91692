import assert from 'node:assert/strict';
import { test } from 'node:test';
import { catalogue } from './catalogue.ts';
import { reasonsOf } from './report.ts';
import { lateIn, playFault } from './run.ts';

const size = { seed: 7, seconds: 3, clients: 1 };

/**
 * Declares the test that everything holds after a fault, under a small load. How long things took is told, and fails
 * nothing: the machine may be busy with other tests. `npm run faults` fails for that too.
 */
export function testFault(id: string): void {
  const fault = catalogue.find((each) => each.id === id);
  test(`everything holds that has to under load after ${id}: ${fault?.title}`, async (t) => {
    assert.ok(fault !== undefined);
    const outcome = await playFault(fault, size);
    t.diagnostic(`${outcome.operations} operations; ${outcome.notes.join('; ')}`);
    for (const late of lateIn(outcome)) t.diagnostic(`late: ${late}`);
    assert.equal(outcome.sound, true, outcome.notPlayed ?? reasonsOf(outcome).join('\n'));
  });
}
