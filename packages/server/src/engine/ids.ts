import { randomBytes, randomUUID } from 'node:crypto';

/** Ids of the service: a word for what they name and 128 random bits. The only place of the server that draws randomness. */
export function newId(
  kind: 'conv' | 'turn' | 'req' | 'proc' | 'call' | 'appr' | 'key' | 'stop' | 'job' | 'node' | 'hook',
): string {
  return `${kind}-${randomBytes(16).toString('hex')}`;
}

/** A UUID, where Claude Code asks for one. */
export function newUuid(): string {
  return randomUUID();
}

/** A secret of 256 random bits that can be put into a header as it is. */
export function newSecret(prefix: string): string {
  return `${prefix}${randomBytes(32).toString('base64url')}`;
}

/** A secret of 256 random bits to sign webhooks with, as Standard Webhooks writes it. */
export function newWebhookSecret(): string {
  return `whsec_${randomBytes(32).toString('base64')}`;
}

/** Bytes that are used once with a key, as AES-GCM wants them. */
export function newNonce(): Buffer {
  return randomBytes(12);
}

/** A number from 0 (included) to 1 (excluded), for jitter. */
export function randomFraction(): number {
  return randomBytes(4).readUInt32BE() / 2 ** 32;
}
