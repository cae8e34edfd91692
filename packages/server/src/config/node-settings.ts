import { path, wholeNumber } from './kinds.ts';
import { setting } from './spec.ts';

/** The settings of servers that share a database. */
export const nodeSettings = {
  leaseSeconds: setting(wholeNumber(3, 300), {
    variable: 'SALLYPORT_LEASE_SECONDS',
    default: '15',
    text: 'Within how many seconds others take over what a server of several on one Postgres ran that is silent. The same for all of them.',
  }),
  workspacesDir: setting(path, {
    variable: 'SALLYPORT_WORKSPACES_DIR',
    default: null,
    defaultText: '`workspaces` in the data directory',
    text: 'Directory in which the files of conversations are kept between their turns. Several servers on one Postgres need one that all of them share.',
  }),
};
