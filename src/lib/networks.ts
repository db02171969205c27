// IP addresses and networks. An IPv4 address in IPv6's form (`::ffff:10.0.0.1`) is the IPv4 address, on both sides.

import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** A network: an address and how many of its leading bits count. */
export interface Range {
  address: string
  bits: number
}

export type Address = ReturnType<typeof ipaddr.process>
export type Network = readonly [Address, number]

/** The address in a text; undefined if the text is anything else. */
export const parseAddress = (text: string): Address | undefined => (isIP(text) === 0 ? undefined : ipaddr.process(text))

/** @param range of a valid address */
export function parseNetwork({ address, bits }: Range): Network {
  const network = ipaddr.process(address)
  const isMapped = network.kind() === 'ipv4' && isIP(address) === 6
  return [network, isMapped ? Math.max(0, bits - 96) : bits]
}

/** Whether the address is in the network. Addresses of the other family never are. */
export const isIn = (address: Address, [network, bits]: Network): boolean =>
  address.kind() === network.kind() && address.match([network, bits] as never)
