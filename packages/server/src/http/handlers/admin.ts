import type { Engine } from '../../engine/engine.ts';
import type { Handlers } from '../routes.ts';

/** What those who run the service may read. */
export function adminHandlers(engine: Engine): Pick<Handlers, 'readAudit'> {
  return { readAudit: ({ principal, query }) => engine.audit(principal, query) };
}
