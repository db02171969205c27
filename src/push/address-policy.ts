// Where deliveries may go: a guard against server-side request forgery (SSRF). A name is resolved once for each connection, every
// address is checked, and only a checked address is connected to, so that a name that changes in between leads nowhere.

import { lookup as dnsLookup, type LookupAddress } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { networkInterfaces } from 'node:os'
import { type Address, isIn, type Network, parseAddress, parseNetwork, type Range } from '../lib/networks.js'

/** The only part of IPv6 that is assigned to the public internet: https://www.iana.org/assignments/ipv6-address-space */
const PUBLIC_6 = parseNetwork({ address: '2000::', bits: 3 })

/** Public by its form, and yet inside: the wire server of Azure, which hands out credentials to every machine there. */
const INSIDE = [parseNetwork({ address: '168.63.129.16', bits: 32 })]

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
    this.#allowed = allowed.map(parseNetwork)
    this.#resolve = resolve
  }

  /** Whether an IPv4 or IPv6 address may be called. An IPv4 address in IPv6's form is judged as the IPv4 address. */
  allows(address: string): boolean {
    const parsed = parseAddress(address)
    if (!parsed) return false
    if (this.#allowed.some((network) => isIn(parsed, network))) return true
    return isPublic(parsed) && !INSIDE.some((network) => isIn(parsed, network)) && !this.#isOwn(parsed)
  }

  /** Whether it is an address of this machine, which may have other services for itself alone. */
  #isOwn(address: Address): boolean {
    const own = Object.values(this.#interfaces()).flatMap((addresses) => addresses ?? [])
    return own.some((one) => parseAddress(one.address)?.toString() === address.toString())
  }

  /** Checks a URL whose host is an address, or `localhost`, before anything is looked up. @throws AddressRefused */
  checkHost(url: URL): void {
    const host = url.hostname.replace(/^\[|\]$/g, '')
    if (isIP(host) !== 0 && !this.allows(host)) throw addressRefused(host)
    // Such a name is this machine wherever it is resolved (RFC 6761, 6.3), so it is not necessary to try.
    const isLocal = /^(?:.*\.)?localhost\.?$/i.test(host)
    if (isLocal && !this.allows('127.0.0.1') && !this.allows('::1')) throw addressRefused('127.0.0.1', host)
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

function addressRefused(address: string, hostname?: string): AddressRefused {
  const what = hostname === undefined ? address : `${hostname}, which resolves to ${address},`
  return new AddressRefused(`${what} is not a public address, and PUSH_ALLOWED_NETWORKS does not name it`)
}
