import { testFault } from '../faults/held.ts';

/** One that every machine can play and that kills the server: `npm run faults` plays all. */
testFault('C10');
