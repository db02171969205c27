// Lease ids: opaque to clients, checkable by every instance. An id contains the epoch that holds the lease, its vhost and the
// address that its instance advertises, so that any instance can find the holder, and its queue, so that any instance can tell
// who may settle it. 128 random bits make it impossible to guess. A MAC tells an id that was given out from one that never was.

import { createHmac, hash, randomFillSync, timingSafeEqual } from 'node:crypto'
import { EPOCH_BYTES } from '../amqp/consume/lease-connection.js'
import type { Config } from '../config/index.js'

/** The first byte: the version, and flags for the optional parts. */
const VERSION = 2
/** Flag: the id has the digest of the RabbitMQ user that the lease belongs to. */
const OF_LOGIN = 1
/** Flag: the id has the address that the instance advertises. */
const WITH_URL = 4
const LOGIN_DIGEST_BYTES = 8
const RANDOM_BYTES = 16
const MAC_BYTES = 8
const BODY_BYTES = 1 + EPOCH_BYTES + RANDOM_BYTES
const NAMES_AT = BODY_BYTES + MAC_BYTES
/** An address and the names of a vhost and a queue have at most 255 bytes each. The first two have a byte for their length. */
const MAX_LENGTH = Math.ceil(((NAMES_AT + LOGIN_DIGEST_BYTES + 1 + 255 + 1 + 255 + 255) * 4) / 3)

export interface LeaseId {
  epoch: string
  /** Undefined for the connection's own vhost. */
  vhost: string | undefined
  queue: string
  /** Digest of the RabbitMQ user that received it; undefined for the gateway's own user. */
  receivedBy: string | undefined
  /** The address that the instance advertises, if it does. */
  url: string | undefined
}

/** The digest of a RabbitMQ user in lease ids. */
export const loginDigest = (owner: string): string => hash('sha256', owner).slice(0, 2 * LOGIN_DIGEST_BYTES)

/** Creates and reads lease ids. */
export class LeaseIds {
  readonly #key: Buffer
  readonly #defaultVhost: string
  readonly #url: string | undefined
  readonly #pool = Buffer.alloc(256 * RANDOM_BYTES)
  #taken = this.#pool.length

  constructor(config: Config) {
    const [address] = config.AMQP_URL
    // Instances that share a broker share its credentials, and so the key.
    const secret = config.LEASE_SECRET || `${address!.username}\0${address!.password}`
    this.#key = createHmac('sha256', 'rabbitmq-http-gateway lease ids').update(secret).digest()
    this.#defaultVhost = address!.vhost
    this.#url = config.ADVERTISE_URL
  }

  /** Random bytes from a pool: the system takes as long for a few as for many. */
  #random(): Buffer {
    if (this.#taken === this.#pool.length) {
      randomFillSync(this.#pool)
      this.#taken = 0
    }
    this.#taken += RANDOM_BYTES
    return this.#pool.subarray(this.#taken - RANDOM_BYTES, this.#taken)
  }

  /** A new id. @param owner `loginDigest()` of the RabbitMQ user that received the message */
  create(epoch: string, vhost: string, queue: string, owner?: string): string {
    const version = VERSION | (owner === undefined ? 0 : OF_LOGIN) | (this.#url === undefined ? 0 : WITH_URL)
    const body = Buffer.concat([Buffer.of(version), Buffer.from(epoch, 'base64url'), this.#random()])
    const rest = Buffer.concat([
      Buffer.from(owner ?? '', 'hex'),
      this.#url === undefined ? Buffer.of() : withLength(this.#url),
      withLength(vhost === this.#defaultVhost ? '' : vhost),
      Buffer.from(queue),
    ])
    return Buffer.concat([body, this.#mac(body, rest), rest]).toString('base64url')
  }

  /** The parts of an id; undefined if no instance ever gave it out. */
  read(id: string): LeaseId | undefined {
    if (id.length > MAX_LENGTH || !/^[A-Za-z0-9_-]+$/.test(id)) return undefined
    const bytes = Buffer.from(id, 'base64url')
    const version = bytes[0]!
    if ((version & ~(OF_LOGIN | WITH_URL)) !== VERSION || bytes.length <= NAMES_AT || bytes.toString('base64url') !== id)
      return undefined
    const body = bytes.subarray(0, BODY_BYTES)
    const rest = bytes.subarray(NAMES_AT)
    if (!timingSafeEqual(this.#mac(body, rest), bytes.subarray(BODY_BYTES, NAMES_AT))) return undefined
    // The MAC fits, so the rest has the form that create() writes.
    const urlAt = version & OF_LOGIN ? LOGIN_DIGEST_BYTES : 0
    const url = version & WITH_URL ? textAt(rest, urlAt) : undefined
    const vhost = textAt(rest, url?.end ?? urlAt)
    return {
      epoch: body.toString('base64url', 1, 1 + EPOCH_BYTES),
      vhost: vhost.text || undefined,
      queue: rest.toString('utf8', vhost.end),
      receivedBy: version & OF_LOGIN ? rest.toString('hex', 0, LOGIN_DIGEST_BYTES) : undefined,
      url: url?.text,
    }
  }

  #mac(body: Buffer, rest: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(body).update(rest).digest().subarray(0, MAC_BYTES)
  }
}

function withLength(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.of(bytes.length), bytes])
}

function textAt(bytes: Buffer, at: number): { text: string; end: number } {
  const end = at + 1 + bytes[at]!
  return { text: bytes.toString('utf8', at + 1, end), end }
}
