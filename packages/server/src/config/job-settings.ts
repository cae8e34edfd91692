import { wholeNumber } from './kinds.ts';
import { setting } from './spec.ts';

/** The settings of jobs. */
export const jobSettings = {
  jobsAtOnce: setting(wholeNumber(0, 1_000_000), {
    variable: 'SALLYPORT_JOBS_AT_ONCE',
    default: null,
    defaultText: 'one for each core',
    text: 'Most jobs that this server runs at a time, in the places that queries run in too; 0: it runs none, others do.',
  }),
  jobsPerTenant: setting(wholeNumber(0, 1_000_000), {
    variable: 'SALLYPORT_JOBS_PER_TENANT',
    default: '0',
    text: 'Most jobs of a tenant that run at a time, on all servers of one database together; 0: no bound of its own.',
  }),
  maxQueuedJobs: setting(wholeNumber(1, 1_000_000), {
    variable: 'SALLYPORT_MAX_QUEUED_JOBS',
    default: '10000',
    text: 'Most jobs of a tenant that are queued at a time; those beyond are refused.',
  }),
};
