import type { IncomingMessage } from 'node:http';
import { isIPv4, isIPv6 } from 'node:net';

/** A host and port as a client names them: the host in lower case without a trailing dot, IPv6 in brackets. */
interface Authority {
  readonly name: string;
  readonly port: string;
}

/** Reads `host[:port]`; null when it is anything else: user information, a path, a bad port, spaces. */
function parseAuthority(text: string): Authority | null {
  const match = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::(\d{1,5}))?$/.exec(text.toLowerCase());
  if (!match) return null;
  const [, name = '', port = ''] = match;
  if (Number(port) > 65_535) return null;
  if (!name.startsWith('[')) return { name, port };
  return isIPv6(name.slice(1, -1)) ? { name: new URL(`http://${name}`).hostname, port } : null;
}

const isLoopback = (name: string): boolean =>
  name === 'localhost' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'));

/** Values of a header as they were sent, which tells one from several. */
export function valuesOf(raw: IncomingMessage, name: string): string[] {
  const { rawHeaders } = raw;
  return rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name);
}

/** Which host names the service answers under, and which origins are its own. */
export interface HostCheck {
  /** True when the request names an allowed host, in its `Host` header and, if it has one, in its absolute target. */
  allows(raw: IncomingMessage): boolean;
  /** True when the origin is the service itself under the host the request names. Ask only after `allows`. */
  isOwnOrigin(origin: string, raw: IncomingMessage): boolean;
}

function authorityOf(raw: IncomingMessage): Authority | null {
  const values = valuesOf(raw, 'host');
  return values.length === 1 ? parseAuthority(values[0] ?? '') : null;
}

/**
 * Loopback names, the address the service is bound to and the public names of the operator are allowed, with any port.
 * Throws when a public name is not a host name.
 */
export function createHostCheck(host: string, publicHosts: readonly string[]): HostCheck {
  const names = [host, ...publicHosts].map((text) => {
    const authority = parseAuthority(isIPv6(text) ? `[${text}]` : text);
    if (!authority) throw new Error(`"${text}" is not a host name`);
    return authority.name;
  });
  const allowed = new Set(names);
  const isAllowed = (authority: Authority | null): boolean =>
    authority !== null && (isLoopback(authority.name) || allowed.has(authority.name));
  return {
    allows(raw) {
      if (!isAllowed(authorityOf(raw))) return false;
      const target = raw.url ?? '';
      if (target.startsWith('/')) return true;
      const [, named] = /^https?:\/\/([^/?#]*)/i.exec(target) ?? [];
      return named === undefined ? false : isAllowed(parseAuthority(named));
    },
    isOwnOrigin(origin, raw) {
      const own = authorityOf(raw);
      if (!own) return false;
      const [, scheme] = /^(https?):\/\//.exec(origin) ?? [];
      if (scheme === undefined) return false;
      return new URL(`${scheme}://${own.name}${own.port === '' ? '' : `:${own.port}`}`).origin === origin;
    },
  };
}
