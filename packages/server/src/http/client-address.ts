import type { IncomingMessage } from 'node:http';
import { BlockList, isIP, isIPv6 } from 'node:net';

const familyOf = (address: string) => (isIPv6(address) ? 'ipv6' : 'ipv4');
const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, '');

/** The trusted ones. Throws when one is no address and no range such as `10.0.0.0/8`. */
function trustedBy(proxies: readonly string[]): BlockList {
  const trusted = new BlockList();
  for (const text of proxies) {
    const [address = '', bits] = text.split('/');
    if (bits === undefined) trusted.addAddress(address, familyOf(address));
    else trusted.addSubnet(address, Number(bits), familyOf(address));
  }
  return trusted;
}

/**
 * Makes what tells the address of a request's client: of its socket, or what the trusted proxies in front of the service
 * say, each of whom appends to `X-Forwarded-For` whom it was asked by. Text that is no address is never given. Throws
 * when a proxy is no address and no range.
 */
export function addressReader(trustedProxies: readonly string[]): (raw: IncomingMessage) => string {
  const trusted = trustedBy(trustedProxies);
  const isTrusted = (address: string) => isIP(address) !== 0 && trusted.check(address, familyOf(address));
  return ({ socket, headers }) => {
    const nearest = plain(socket.remoteAddress ?? 'unknown');
    const said = (headers['x-forwarded-for'] ?? '').toString().split(',');
    let client = nearest;
    while (isTrusted(client) && said.length > 0) client = plain(said.pop()?.trim() ?? '');
    return isIP(client) ? client : nearest;
  };
}

/**
 * What is counted as one address. In IPv6 that is a network of 64 bits: each subscriber has at least one, and could else
 * ask from a new address every time.
 */
export function subjectOfAddress(address: string): string {
  if (!isIPv6(address)) return address;
  const { hostname } = new URL(`http://[${address.replace(/%.*$/, '')}]`);
  const [head = '', tail = ''] = hostname.slice(1, -1).split('::');
  const groups = (text: string) => (text === '' ? [] : text.split(':'));
  const missing = 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array.from({ length: missing }, () => '0'), ...groups(tail)];
  return `${all.slice(0, 4).join(':')}::/64`;
}
