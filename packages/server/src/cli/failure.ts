import type { Settings } from '../config/settings.ts';

/** One readable line for a start that failed. */
export function startFailure(error: unknown, settings: Settings | null): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const place = settings ? `${settings.host}:${settings.port}` : '';
  if (code === 'EADDRINUSE') return `${place} is taken: stop what uses it, or choose another SALLYPORT_PORT`;
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return `${place} is not an address of this machine: set SALLYPORT_HOST`;
  if (code === 'EACCES' && message.includes('listen'))
    return `${place} may not be used by this user: choose a SALLYPORT_PORT of 1024 or more`;
  // Public sentences are for clients; who starts the service is to read the cause.
  const { name, cause } = error as Error;
  const said = name === 'SallyportError' && cause instanceof Error ? cause.message : message;
  return (error instanceof Error ? said : String(error)).split('\n')[0] ?? 'unknown failure';
}
