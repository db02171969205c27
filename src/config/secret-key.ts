// The keys that all instances of a gateway have in common, without one telling them to another.

import { createHmac, scryptSync } from 'node:crypto'
import type { Config } from './settings.js'

/** About 50 ms of one core and 16 MiB, for the start of an instance, and for every guess at the password of AMQP_URL. */
const SCRYPT = { N: 2 ** 14, r: 8, p: 1 }
const KEY_BYTES = 32

/** In one process all gateways with the same credentials derive the key once. */
const derived = new Map<string, Buffer>()

/**
 * A key that only instances with the same LEASE_SECRET have, or without one, with the same credentials in AMQP_URL.
 * @param purpose every purpose has a key of its own
 */
export function secretKey(config: Pick<Config, 'LEASE_SECRET' | 'AMQP_URL'>, purpose: string): Buffer {
  const secret = config.LEASE_SECRET === '' ? fromCredentials(config) : config.LEASE_SECRET
  return createHmac('sha256', secret).update(`rabbitmq-http-gateway ${purpose}`).digest()
}

function fromCredentials({ AMQP_URL: [address] }: Pick<Config, 'AMQP_URL'>): Buffer {
  const credentials = `${address?.username}\0${address?.password}`
  const known = derived.get(credentials)
  if (known) return known
  const key = scryptSync(credentials, 'rabbitmq-http-gateway', KEY_BYTES, SCRYPT)
  derived.set(credentials, key)
  return key
}
