import { masterKey, runProgram } from '../../test/support/service.ts';
import { modes, type LaterAttempt } from '../attempt.ts';
import { secretsIn } from '../run.ts';

/** What the attempts of a mode have done to the records of the service. Judged last. */
export const recordAttempts: readonly LaterAttempt[] = [
  {
    name: 'audit-log',
    reaches: 'lines of the audit log',
    modes,
    async play({ service, conversation }) {
      const env = {
        SALLYPORT_DATA_DIR: service.dataDir,
        SALLYPORT_PORT: new URL(service.url).port,
        CLAUDE_API_MASTER_KEY: masterKey,
      };
      const verifying = runProgram(['audit', 'verify'], env, service.root);
      const code = await verifying.exited;
      const lines = Number(/is whole: (\d+) lines/u.exec(verifying.output())?.[1] ?? 0);
      const started = conversation.started().size;
      return {
        notTried: started > 0 ? null : 'the audit log does not know the attempts',
        gained: code === 0 && lines >= started ? [] : [`the audit log is not whole: ${verifying.output()}`],
        stoppedBy: ['audit'],
      };
    },
  },
  {
    name: 'service-log',
    reaches: 'secrets in the log of the service, by errors that it is made to write',
    modes,
    async play(at) {
      return {
        notTried: at.service.logs.length > 0 ? null : 'the service has no log',
        gained: secretsIn(at, at.service.logs.join('')).map((name) => `the log tells ${name}`),
        stoppedBy: ['redaction'],
      };
    },
  },
];
