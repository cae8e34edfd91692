import { leftOutWithoutPostgres } from '../../../../test/support/postgres.ts';
import { storeContracts } from '../testing/all-stores.ts';
import { postgresForTests } from '../testing/postgres.ts';

if (!leftOutWithoutPostgres('what the stores promise on Postgres')) {
  const postgres = await postgresForTests();
  const url = await postgres.newDatabase();
  const stores = postgres.open(null, url);
  storeContracts(async () => {
    await postgres.clear(url);
    return stores;
  });
}
