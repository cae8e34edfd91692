import swagger, { type SwaggerOptions } from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';

/** Serves the API's description at `/openapi.json` and its pages at `/docs`. All of it comes from this server. */
export async function addDocumentation(
  app: FastifyInstance,
  document: Readonly<Record<string, unknown>>,
): Promise<void> {
  await app.register(async (pages) => {
    pages.addHook('onRoute', (route) => {
      route.config = { ...route.config, documentation: true };
    });
    pages.get('/openapi.json', () => document);
    await pages.register(swagger, { mode: 'static', specification: { document } } as unknown as SwaggerOptions);
    await pages.register(swaggerUi, {
      routePrefix: '/docs',
      theme: { title: 'Sallyport' },
      uiConfig: { layout: 'BaseLayout' },
    });
  });
}
