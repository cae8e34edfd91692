import { startPostgres } from '../test/support/postgres.ts';

/** The Postgres of the tests for nodes of a benchmark, with one empty database. It ends with this process. */
const postgres = await startPostgres();
process.once('SIGTERM', () => void postgres.close());
process.stdout.write(`Address: ${await postgres.create('bench')}\n`);
