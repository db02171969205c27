// Lease ids: opaque to clients, checkable by every instance. An id names the epoch that holds the lease and its vhost, so that
// any instance can find the owner, and its queue, so that any instance can tell who may settle it; 128 random bits make it a
// capability that can't be guessed; a MAC tells an id that was once given out from one that never was.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { EPOCH_BYTES } from '../amqp/lease-connection.js'
import type { Config } from '../config.js'

const VERSION = 2
const RANDOM_BYTES = 16
const MAC_BYTES = 8
const BODY_BYTES = 1 + EPOCH_BYTES + RANDOM_BYTES
const NAMES_AT = BODY_BYTES + MAC_BYTES
/** The names of a vhost and a queue have 255 bytes at most; how many the vhost's has takes one more. */
const MAX_LENGTH = Math.ceil(((NAMES_AT + 1 + 255 + 255) * 4) / 3)

export interface LeaseId {
  epoch: string
  /** undefined: the connection's own vhost. */
  vhost: string | undefined
  queue: string
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

  create(epoch: string, vhost: string, queue: string): string {
    const name = Buffer.from(vhost === this.#defaultVhost ? '' : vhost)
    const names = Buffer.concat([Buffer.of(name.length), name, Buffer.from(queue)])
    const body = Buffer.concat([Buffer.of(VERSION), Buffer.from(epoch, 'base64url'), randomBytes(RANDOM_BYTES)])
    return Buffer.concat([body, this.#mac(body, names), names]).toString('base64url')
  }

  /** What the id says, or undefined where no instance ever gave it out. */
  read(id: string): LeaseId | undefined {
    if (id.length > MAX_LENGTH || !/^[A-Za-z0-9_-]+$/.test(id)) return undefined
    const bytes = Buffer.from(id, 'base64url')
    if (bytes.length <= NAMES_AT || bytes[0] !== VERSION || bytes.toString('base64url') !== id) return undefined
    const body = bytes.subarray(0, BODY_BYTES)
    const names = bytes.subarray(NAMES_AT)
    if (!timingSafeEqual(this.#mac(body, names), bytes.subarray(BODY_BYTES, NAMES_AT))) return undefined
    const queueAt = 1 + names[0]!
    return {
      epoch: body.toString('base64url', 1, 1 + EPOCH_BYTES),
      vhost: names.toString('utf8', 1, queueAt) || undefined,
      queue: names.toString('utf8', queueAt),
    }
  }

  #mac(body: Buffer, names: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(body).update(names).digest().subarray(0, MAC_BYTES)
  }
}
