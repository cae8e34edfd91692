import { createSallyport, type Sallyport } from '../compose.ts';
import type { Settings } from '../config/settings.ts';
import { banner } from './banner.ts';
import type { Terminal } from './command.ts';

/** Serves until it is told to stop. Resolves with the exit code; rejects when the service cannot start. */
export async function serve(settings: Settings, terminal: Terminal): Promise<number> {
  const stop = terminal.stopRequested();
  const service: Sallyport = await createSallyport(settings, { logTo: terminal.error });
  terminal.out.write(banner(service));
  await stop;
  await service.close();
  return 0;
}
