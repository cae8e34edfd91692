import type { Admin, AdminParts } from './admin.ts';
import { auditReads } from './audit-reads.ts';
import { keyAdmin } from './key-admin.ts';
import { stopAdmin } from './stop-admin.ts';
import { tenantAdmin } from './tenant-admin.ts';
import { usageReads } from './usage-reads.ts';

/** What those who run the service do, over its stores. */
export function createAdmin(parts: AdminParts): Admin {
  return {
    ...tenantAdmin(parts),
    ...keyAdmin(parts),
    ...stopAdmin(parts),
    ...usageReads(parts),
    ...auditReads(parts),
  };
}
