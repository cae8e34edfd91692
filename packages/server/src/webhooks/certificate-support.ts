import { createHash, generateKeyPairSync, sign } from 'node:crypto';

/** A key and a certificate that it signed itself, as PEM. */
export interface OwnCertificate {
  readonly key: string;
  readonly cert: string;
}

const der = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const content = Buffer.concat(parts);
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
};
const sequence = (...parts: readonly Uint8Array[]) => der(0x30, ...parts);
const identifier = (hex: string) => der(0x06, Buffer.from(hex, 'hex'));
const time = (text: string) => der(0x17, Buffer.from(text));
const extension = (hex: string, value: Uint8Array) => sequence(identifier(hex), der(0x04, value));

/** A certificate for IPv4 addresses that is its own authority, of a time in which these tests run. */
export function ownCertificate(...addresses: readonly string[]): OwnCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = sequence(identifier('2a8648ce3d040302')); // ecdsa-with-SHA256
  const common = der(0x0c, Buffer.from('a receiver of webhooks'));
  const name = sequence(der(0x31, sequence(identifier('550403'), common)));
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const serial = createHash('sha256').update(spki).digest().subarray(0, 8).fill(1, 0, 1);
  const alternatives = addresses.map((address) => der(0x87, Buffer.from(address.split('.').map(Number))));
  const extensions = sequence(
    extension('551d13', sequence(der(0x01, Buffer.from([0xff])))), // it is an authority
    extension('551d11', sequence(...alternatives)),
  );
  const unsigned = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    name,
    sequence(time('200101000000Z'), time('491231235959Z')),
    name,
    spki,
    der(0xa3, extensions),
  );
  const signature = der(0x03, Buffer.from([0]), sign('sha256', unsigned, privateKey));
  const base64 = sequence(unsigned, algorithm, signature).toString('base64');
  const lines = base64.match(/.{1,64}/gu) ?? [];
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    cert: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
  };
}
