// Where deliveries may go. A name is resolved once for each connection, every address is judged, and what is connected to is
// what was judged: a name that leads somewhere else a moment later leads nowhere.

import { lookup as dnsLookup, type LookupAddress } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'

/** An address or a range of them. */
export interface Range {
  address: string
  bits: number
}

/** What is not the public internet: https://www.iana.org/assignments/iana-ipv4-special-registry */
const REFUSED_4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16', // link-local, and where clouds answer with credentials
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
]
/** All but 2000::/3, and of that what leads to IPv4 addresses or is for documents. */
const REFUSED_6 = ['::/3', '4000::/2', '8000::/1', '2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']
const MAPPED = listOf([{ address: '::ffff:0:0', bits: 96 }], 6)

type Resolve = (
  hostname: string,
  options: { all: true },
  callback: (error: Error | null, addresses: LookupAddress[]) => void,
) => void

/** A delivery that was not even tried. */
export class AddressRefused extends Error {}

export class AddressPolicy {
  readonly #refused = { 4: listOf(REFUSED_4.map(rangeOf), 4), 6: listOf(REFUSED_6.map(rangeOf), 6) }
  readonly #allowed: { 4: BlockList; 6: BlockList }
  readonly #resolve: Resolve

  /** @param allowed what may be called though it is not public */
  constructor(allowed: readonly Range[], resolve: Resolve = dnsLookup) {
    this.#allowed = { 4: listOf(allowed, 4), 6: listOf(allowed, 6) }
    this.#resolve = resolve
  }

  /** @param address IPv4 or IPv6; an IPv4 address in IPv6's form is judged as what it is */
  allows(address: string): boolean {
    const bare = address.split('%', 1)[0]!
    const version = isIP(bare)
    if (version === 0) return false
    const family = version === 4 ? 'ipv4' : 'ipv6'
    const kind = version === 4 || MAPPED.check(bare, 'ipv6') ? 4 : 6
    return this.#allowed[kind].check(bare, family) || !this.#refused[kind].check(bare, family)
  }

  /** Of a URL whose host is an address: nobody looks that up. @throws RefusedAddress */
  checkHost(url: URL): void {
    const host = url.hostname.replace(/^\[|\]$/g, '')
    if (isIP(host) !== 0 && !this.allows(host)) throw addressRefused(host)
  }

  /** For connections: calls back with addresses that may be connected to, or with an error. */
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

function addressRefused(address: string, hostname?: string): AddressRefused {
  const what = hostname === undefined ? address : `${hostname}, which is ${address},`
  return new AddressRefused(`${what} is not public, and PUSH_ALLOWED_NETWORKS does not name it`)
}

function rangeOf(text: string): Range {
  const [address, bits] = text.split('/') as [string, string]
  return { address, bits: Number(bits) }
}

function listOf(ranges: readonly Range[], version: 4 | 6): BlockList {
  const list = new BlockList()
  for (const { address, bits } of ranges)
    if (isIP(address) === version) list.addSubnet(address, bits, version === 4 ? 'ipv4' : 'ipv6')
  return list
}
