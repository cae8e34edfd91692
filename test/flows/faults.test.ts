import assert from 'node:assert/strict';
import { test } from 'node:test';
import { catalogue } from '../faults/catalogue.ts';
import { reasonsOf } from '../faults/report.ts';
import { playFault } from '../faults/run.ts';

const size = { seed: 7, seconds: 3, clients: 1 };

/** Some that every machine can play: `npm run faults` plays all. */
for (const id of ['P2', 'U4']) {
  const fault = catalogue.find((each) => each.id === id);
  test(`everything holds that has to under load after ${id}: ${fault?.title}`, async (t) => {
    assert.ok(fault !== undefined);
    const outcome = await playFault(fault, size);
    t.diagnostic(`${outcome.operations} operations; ${outcome.notes.join('; ')}`);
    assert.equal(outcome.held, true, outcome.notPlayed ?? reasonsOf(outcome).join('\n'));
  });
}
