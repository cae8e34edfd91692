import type { MessagesRequest } from '@sallyport/simulator';

/** The parts of a request, without what no two processes have in common. */
export function partsOf(body: MessagesRequest | null | undefined): string[] {
  const { messages = [], ...rest } = { ...body, metadata: null };
  return [...messages, ...Object.entries(rest)].map((part) =>
    JSON.stringify(part)
      .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}|toolu_\w+|msg_\w+/g, 'id')
      .replaceAll(/\/tmp\/spr-\w+\/run\/jails\/[\w-]+/g, 'place'),
  );
}
