import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from 'node:crypto';
import { newNonce } from './ids.ts';
import type { WebhookSecrets } from './ports.ts';

/** Seals secrets for the database. What was sealed for one tenant opens for no other. */
export interface SecretBox {
  seal(tenant: string, secret: string): Promise<string>;
  /** Rejects when it was sealed with another key, for another tenant, or was changed. */
  open(tenant: string, sealed: string): Promise<string>;
}

const cipher = 'aes-256-gcm';
const version = 'v1.';
const nonceBytes = 12;
const tagBytes = 16;

/** A box whose key is derived from a text of at least 32 random characters, which is asked for when it is first needed. */
export function createSecretBox(text: () => Promise<string>): SecretBox {
  const derive = async () => Buffer.from(hkdfSync('sha256', await text(), '', 'sallyport webhook secrets', 32));
  return {
    async seal(tenant, secret) {
      const nonce = newNonce();
      const sealing = createCipheriv(cipher, await derive(), nonce).setAAD(Buffer.from(tenant));
      const sealed = Buffer.concat([nonce, sealing.update(secret, 'utf8'), sealing.final(), sealing.getAuthTag()]);
      return `${version}${sealed.toString('base64')}`;
    },
    async open(tenant, sealed) {
      if (!sealed.startsWith(version)) throw new Error('a webhook secret is sealed in an unknown way');
      const bytes = Buffer.from(sealed.slice(version.length), 'base64');
      const opening = createDecipheriv(cipher, await derive(), bytes.subarray(0, nonceBytes), {
        authTagLength: tagBytes,
      });
      opening.setAAD(Buffer.from(tenant)).setAuthTag(bytes.subarray(-tagBytes));
      return opening.update(bytes.subarray(nonceBytes, -tagBytes), undefined, 'utf8') + opening.final('utf8');
    },
  };
}

/** The secrets that sign now: the current one, and the one before while it is valid. Rejects when one cannot be opened. */
export async function openSecrets(
  box: Pick<SecretBox, 'open'>,
  tenant: string,
  { sealed, previous }: WebhookSecrets,
  now: number,
): Promise<string[]> {
  const valid = previous !== null && previous.until > now ? [sealed, previous.sealed] : [sealed];
  return Promise.all(valid.map((one) => box.open(tenant, one)));
}

/**
 * The headers of Standard Webhooks: who verifies them over the bytes of the body knows that the message is ours, which one
 * it is, and when it was sent. One signature for each secret; `sentAt` in milliseconds.
 */
export function signedHeaders(
  secrets: readonly string[],
  message: { readonly id: string; readonly body: string },
  sentAt: number,
): Record<'webhook-id' | 'webhook-timestamp' | 'webhook-signature', string> {
  const { id, body } = message;
  const timestamp = String(Math.floor(sentAt / 1000));
  const signature = (secret: string) => {
    const key = Buffer.from(secret.replace(/^whsec_/u, ''), 'base64');
    return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`, 'utf8').digest('base64')}`;
  };
  return {
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': secrets.map(signature).join(' '),
  };
}
