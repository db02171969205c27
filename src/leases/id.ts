// Lease ids: opaque to clients, checkable by every instance. An id names the epoch that holds the lease and its vhost, so that
// any instance can find the owner, and its queue, so that any instance can tell who may settle it; 128 random bits make it a
// capability that can't be guessed; a MAC tells an id that was once given out from one that never was.

import { createHmac, hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { EPOCH_BYTES } from '../amqp/lease-connection.js'
import type { Config } from '../config.js'

const VERSION = 2
/** Of a lease on a connection of another user than the gateway's own: a digest of whose it is stands before the names. */
const OF_LOGIN = 3
const OWNER_BYTES = 8
const RANDOM_BYTES = 16
const MAC_BYTES = 8
const BODY_BYTES = 1 + EPOCH_BYTES + RANDOM_BYTES
const NAMES_AT = BODY_BYTES + MAC_BYTES
/** The names of a vhost and a queue have 255 bytes at most; how many the vhost's has takes one more. */
const MAX_LENGTH = Math.ceil(((NAMES_AT + OWNER_BYTES + 1 + 255 + 255) * 4) / 3)

export interface LeaseId {
  epoch: string
  /** undefined: the connection's own vhost. */
  vhost: string | undefined
  queue: string
  /** Digest of the login that received it; undefined where that was the gateway's own user. */
  owner: string | undefined
}

/** What ids have of a login. */
export const ownerDigest = (owner: string): string => hash('sha256', owner).slice(0, 2 * OWNER_BYTES)

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

  /** @param owner ownerDigest() of a login */
  create(epoch: string, vhost: string, queue: string, owner?: string): string {
    const name = Buffer.from(vhost === this.#defaultVhost ? '' : vhost)
    const whose = Buffer.from(owner ?? '', 'hex')
    const names = Buffer.concat([whose, Buffer.of(name.length), name, Buffer.from(queue)])
    const version = owner === undefined ? VERSION : OF_LOGIN
    const body = Buffer.concat([Buffer.of(version), Buffer.from(epoch, 'base64url'), randomBytes(RANDOM_BYTES)])
    return Buffer.concat([body, this.#mac(body, names), names]).toString('base64url')
  }

  /** What the id says, or undefined where no instance ever gave it out. */
  read(id: string): LeaseId | undefined {
    if (id.length > MAX_LENGTH || !/^[A-Za-z0-9_-]+$/.test(id)) return undefined
    const bytes = Buffer.from(id, 'base64url')
    const ofLogin = bytes[0] === OF_LOGIN
    if (!ofLogin && bytes[0] !== VERSION) return undefined
    if (bytes.length <= NAMES_AT + (ofLogin ? OWNER_BYTES : 0) || bytes.toString('base64url') !== id) return undefined
    const body = bytes.subarray(0, BODY_BYTES)
    const names = bytes.subarray(NAMES_AT)
    if (!timingSafeEqual(this.#mac(body, names), bytes.subarray(BODY_BYTES, NAMES_AT))) return undefined
    const vhostAt = (ofLogin ? OWNER_BYTES : 0) + 1
    const queueAt = vhostAt + names[vhostAt - 1]!
    return {
      epoch: body.toString('base64url', 1, 1 + EPOCH_BYTES),
      vhost: names.toString('utf8', vhostAt, queueAt) || undefined,
      queue: names.toString('utf8', queueAt),
      owner: ofLogin ? names.toString('hex', 0, OWNER_BYTES) : undefined,
    }
  }

  #mac(body: Buffer, names: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(body).update(names).digest().subarray(0, MAC_BYTES)
  }
}
