import type { Handlers } from '../routes.ts';

export interface ServiceState {
  readonly version: string;
  /** Which model answers, as `/health` names it. */
  readonly upstream: string;
  /** Names of the parts that fail; none when queries can run. */
  ready(): Promise<readonly string[]>;
}

/** Names the service, and says whether it lives and can work. None of them calls the model. */
export function serviceHandlers(
  state: ServiceState,
  isClosing: () => boolean,
): Pick<Handlers, 'root' | 'health' | 'livez' | 'readyz'> {
  return {
    root: ({ request, reply }) => {
      reply.header('vary', 'Origin, Accept');
      if (/\btext\/html\b/i.test(request.headers.accept ?? '')) return reply.redirect('/docs', 302);
      return { message: 'Sallyport: Claude Code behind a web API. Its description is at /docs.' };
    },
    health: () => ({ status: 'healthy', version: state.version, upstream: state.upstream }),
    livez: () => ({ status: 'alive' }),
    readyz: async ({ request, reply }) => {
      const failing = await state.ready().catch((error: unknown) => {
        request.log.error({ err: error }, 'the readiness check failed');
        return ['readiness check'];
      });
      const parts = isClosing() ? [...failing, 'draining'] : failing;
      if (parts.length > 0) reply.code(503);
      return { status: parts.length === 0 ? 'ready' : 'not_ready', failing: parts };
    },
  };
}
