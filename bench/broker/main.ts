import { openGrant } from './grant.ts';
import { openBroker } from './open.ts';

/** The broker of the service in a process of its own, with one pass for whoever knows its token. */
const { broker } = await openBroker('broker-run');
const pass = broker.issue();
pass.bind(openGrant);
process.once('SIGTERM', () => void broker.close().finally(() => process.exit(0)));
process.stdout.write(`Token: ${pass.token}\nAddress: ${broker.socketPath}\n`);
