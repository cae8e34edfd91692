import { BlockList, isIP, isIPv4 } from 'node:net';

/**
 * IPv4 that is not of the internet at large: this network, private, shared by carriers, loopback, link-local with the
 * metadata of clouds, protocol assignments, documentation, 6to4 relays, benchmarks, multicast, reserved. Then an address
 * at which Azure answers its machines.
 */
const closed4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '168.63.129.16/32',
];

/**
 * IPv6 outside of 2000::/3, the only part that is given out: unspecified, loopback, IPv4 in all its forms, NAT64, unique
 * local, link-local, multicast. Then what in it leads elsewhere: protocol assignments with Teredo, documentation, 6to4.
 */
const closed6 = ['::/3', '4000::/2', '8000::/1', '2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

/** Networks of each kind apart: an IPv4 address must never fit one of IPv6. */
class Networks {
  readonly #lists = { ipv4: new BlockList(), ipv6: new BlockList() };

  constructor(networks: readonly string[]) {
    for (const network of networks) {
      const [address = '', prefix] = network.split('/');
      const family = familyOf(address);
      const longest = family === 'ipv4' ? 32 : 128;
      this.#lists[family].addSubnet(address, prefix === undefined ? longest : Number(prefix), family);
    }
  }

  holds(address: string): boolean {
    const family = familyOf(address);
    return this.#lists[family].check(address, family);
  }
}

const familyOf = (address: string) => (isIPv4(address) ? 'ipv4' : 'ipv6');

const closed = new Networks([...closed4, ...closed6]);

/** Which addresses are sent to. */
export interface Addresses {
  /** True when anything is private that is sent to all the same. */
  readonly hasPrivate: boolean;
  /** True when the address may be sent to; without encryption only where it is private. Takes any text. */
  allows(address: string, encrypted: boolean): boolean;
}

/** The internet, and the given private networks, as `10.0.0.0/8` or single addresses. */
export function createAddresses(privateNetworks: readonly string[]): Addresses {
  const open = new Networks(privateNetworks);
  return {
    hasPrivate: privateNetworks.length > 0,
    allows(address, encrypted) {
      // A zone names an interface of this machine.
      if (isIP(address) === 0 || address.includes('%')) return false;
      return open.holds(address) || (encrypted && !closed.holds(address));
    },
  };
}

/** The IP address that a URL names as its host; null when that is a name. */
export function literalOf({ hostname }: URL): string | null {
  const bare = hostname.replace(/^\[(.*)\]$/u, '$1');
  return isIP(bare) === 0 ? null : bare;
}
