// Where deliveries may go: a guard against server-side request forgery (SSRF). A name is resolved once for each connection, every
// address is checked, and only a checked address is connected to, so that a name that changes in between leads nowhere.

import { lookup as dnsLookup, type LookupAddress } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { networkInterfaces } from 'node:os'
import ipaddr from 'ipaddr.js'

/** A network: an address and how many of its leading bits count. */
export interface Range {
  address: string
  bits: number
}

type Address = ReturnType<typeof ipaddr.process>
type Network = ReturnType<typeof ipaddr.parseCIDR>

/** The only part of IPv6 that is assigned to the public internet: https://www.iana.org/assignments/ipv6-address-space */
const PUBLIC_6 = ipaddr.parseCIDR('2000::/3')

/** Public by its form, and yet inside: the wire server of Azure, which hands out credentials to every machine there. */
const INSIDE = [ipaddr.parseCIDR('168.63.129.16/32')]

type Resolve = (
  hostname: string,
  options: { all: true },
  callback: (error: Error | null, addresses: LookupAddress[]) => void,
) => void

/** A delivery that was not tried, since its address is neither public nor allowed. */
export class AddressRefused extends Error {}

/** Decides which addresses may be called. */
export class AddressPolicy {
  readonly #allowed: readonly Network[]
  readonly #resolve: Resolve
  readonly #interfaces: typeof networkInterfaces

  /** @param allowed networks that may be called although they are not public */
  constructor(allowed: readonly Range[], resolve: Resolve = dnsLookup, interfaces = networkInterfaces) {
    this.#interfaces = interfaces
    this.#allowed = allowed.map(({ address, bits }): Network => [ipaddr.parse(address), bits])
    this.#resolve = resolve
  }

  /** Whether an IPv4 or IPv6 address may be called. An IPv4 address in IPv6's form is judged as the IPv4 address. */
  allows(address: string): boolean {
    if (isIP(address) === 0) return false
    const parsed = ipaddr.process(address)
    if (this.#allowed.some((network) => isIn(parsed, network))) return true
    return isPublic(parsed) && !INSIDE.some((network) => isIn(parsed, network)) && !this.#isOwn(parsed)
  }

  /** Whether it is an address of this machine, which may have other services for itself alone. */
  #isOwn(address: Address): boolean {
    const own = Object.values(this.#interfaces()).flatMap((addresses) => addresses ?? [])
    return own.some((one) => ipaddr.process(one.address).toString() === address.toString())
  }

  /** Checks a URL whose host is an address, which is not looked up. @throws AddressRefused */
  checkHost(url: URL): void {
    const host = url.hostname.replace(/^\[|\]$/g, '')
    if (isIP(host) !== 0 && !this.allows(host)) throw addressRefused(host)
  }

  /** A `lookup` for connections: calls back with the addresses that may be called, or with AddressRefused if there are none. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    this.#resolve(hostname, { all: true }, (error, addresses) => {
      if (error) return callback(error, [])
      const usable = addresses.filter(({ address }) => this.allows(address))
      const [first] = usable
      if (!first) return callback(addressRefused(addresses[0]?.address ?? 'nothing', hostname), [])
      return options.all ? callback(null, usable) : callback(null, first.address, first.family)
    })
  }
}

/** Every special range that the library names (private, loopback, link-local, 6to4, Teredo, documentation…) is not `unicast`. */
function isPublic(address: Address): boolean {
  return address.range() === 'unicast' && (address.kind() === 'ipv4' || isIn(address, PUBLIC_6))
}

/** The library throws if the two are of different families. */
function isIn(address: Address, [network, bits]: Network): boolean {
  return address.kind() === network.kind() && address.match([network, bits] as never)
}

function addressRefused(address: string, hostname?: string): AddressRefused {
  const what = hostname === undefined ? address : `${hostname}, which resolves to ${address},`
  return new AddressRefused(`${what} is not a public address, and PUSH_ALLOWED_NETWORKS does not name it`)
}
