import { systemClock } from '../engine/clock.ts';
import { openStores } from '../stores/stores.ts';
import { aText, anAccept } from './turns.ts';

/** A program to be killed: appends to one turn in the given data directory, and prints each `seq` once it is acknowledged. */
const stores = await openStores({ dataDir: String(process.argv[2]), clock: systemClock });
const { ref } = await stores.turns.accept(anAccept('c'));
await stores.turns.begin(ref, systemClock.now());
for (;;) {
  const events = await stores.turns.append(ref, systemClock.now(), [aText('x'.repeat(500))]);
  await stores.transcripts.append({ tenant: 'default', session: 's', subpath: '' }, [{ uuid: `${events[0]?.seq}` }]);
  process.stdout.write(`${events[0]?.seq}\n`);
}
