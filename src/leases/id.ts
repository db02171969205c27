// Lease ids: opaque to clients, checkable by every instance. An id names the epoch that holds the lease and its vhost, so that
// any instance can find the owner; 128 random bits make it a capability that can't be guessed; a MAC tells an id that was
// once given out from one that never was.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { EPOCH_BYTES } from '../amqp/lease-connection.js'
import type { Config } from '../config.js'

const VERSION = 1
const RANDOM_BYTES = 16
const MAC_BYTES = 8
const BODY_BYTES = 1 + EPOCH_BYTES + RANDOM_BYTES
/** A vhost's name has 255 bytes at most. */
const MAX_LENGTH = Math.ceil(((BODY_BYTES + MAC_BYTES + 255) * 4) / 3)

export interface LeaseId {
  epoch: string
  /** undefined: the connection's own vhost. */
  vhost: string | undefined
}

export class LeaseIds {
  readonly #key: Buffer
  readonly #defaultVhost: string

  constructor(config: Config) {
    const [address] = config.AMQP_URL
    // Instances that share a broker share its credentials, and with them the key.
    const secret = config.LEASE_SECRET || `${address!.username}\0${address!.password}`
    this.#key = createHmac('sha256', 'rabbitmq-http-gateway lease ids').update(secret).digest()
    this.#defaultVhost = address!.vhost
  }

  create(epoch: string, vhost: string): string {
    const name = vhost === this.#defaultVhost ? '' : vhost
    const body = Buffer.concat([Buffer.of(VERSION), Buffer.from(epoch, 'base64url'), randomBytes(RANDOM_BYTES)])
    return Buffer.concat([body, this.#mac(body, name), Buffer.from(name)]).toString('base64url')
  }

  /** What the id says, or undefined where no instance ever gave it out. */
  read(id: string): LeaseId | undefined {
    if (id.length > MAX_LENGTH || !/^[A-Za-z0-9_-]+$/.test(id)) return undefined
    const bytes = Buffer.from(id, 'base64url')
    if (bytes.length < BODY_BYTES + MAC_BYTES || bytes[0] !== VERSION || bytes.toString('base64url') !== id) return undefined
    const body = bytes.subarray(0, BODY_BYTES)
    const name = bytes.toString('utf8', BODY_BYTES + MAC_BYTES)
    if (!timingSafeEqual(this.#mac(body, name), bytes.subarray(BODY_BYTES, BODY_BYTES + MAC_BYTES))) return undefined
    return { epoch: body.toString('base64url', 1, 1 + EPOCH_BYTES), vhost: name || undefined }
  }

  #mac(body: Buffer, vhost: string): Buffer {
    return createHmac('sha256', this.#key).update(body).update(vhost).digest().subarray(0, MAC_BYTES)
  }
}
