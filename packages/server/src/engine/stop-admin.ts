import { auditOfAdmin, type AdminAct } from './admin-audit.ts';
import type { Admin, AdminParts } from './admin.ts';
import { SallyportError } from './errors.ts';
import { newId } from './ids.ts';
import type { Stop } from './ports.ts';
import { stopInfo } from './stops.ts';

/** What is told of a stop in the audit log: in that of its tenant, where it names one. */
function actOf(action: string, at: number, own: string, stop: Stop): AdminAct {
  const { id: subject, tenant, key, conversation, reason } = stop;
  const { scope } = stopInfo(stop);
  return { at, tenant: tenant ?? own, action, subject, details: { scope, key, conversation, reason } };
}

/** The part of `Admin` that stops work. */
export function stopAdmin({ stops, stopsHeld, clock }: AdminParts): Pick<Admin, 'stops' | 'stop' | 'liftStop'> {
  return {
    stops: async () => (await stops.list()).map(stopInfo),

    async stop(principal, wanted) {
      const stop: Stop = { id: newId('stop'), ...wanted, createdAt: clock.now(), createdBy: principal.key };
      const act = actOf('stop.add', stop.createdAt, principal.tenant, stop);
      await stops.add(stop, auditOfAdmin(principal, act));
      await stopsHeld.refresh();
      return stopInfo(stop);
    },

    async liftStop(principal, id) {
      const at = clock.now();
      const lifted = await stops.lift(id, (stop) =>
        auditOfAdmin(principal, actOf('stop.lift', at, principal.tenant, stop)),
      );
      if (lifted === null) throw new SallyportError('stop_not_found');
      await stopsHeld.refresh();
      return stopInfo(lifted);
    },
  };
}
