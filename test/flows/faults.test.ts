import { testFault } from '../faults/held.ts';

/** Some that every machine can play: `npm run faults` plays all. */
for (const id of ['P2', 'U4']) testFault(id);
