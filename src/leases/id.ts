// Lease ids: opaque to clients, checkable by every instance. An id contains the epoch that holds the lease, its vhost and the
// name of its instance, so that any instance can find the holder, and its queue, so that any instance can tell who may settle
// it. 128 random bits make it impossible to guess. A MAC tells an id that was given out from one that never was. There is no
// address in it: what an id says is never called.

import { createHmac, hash, randomFillSync, timingSafeEqual } from 'node:crypto'
import { EPOCH_BYTES } from '../amqp/consume/lease-connection.js'
import { type Config, secretKey } from '../config/index.js'

/** The first byte: the version, and flags for the optional parts. */
const VERSION = 8
/** The version before, with a weaker key. Instances read it, so that a rolling update loses no lease. */
const OLD_VERSION = 2
/** Flag: the id has the digest of the RabbitMQ user that the lease belongs to. */
const OF_LOGIN = 1
/** Flag: the id has the name of its instance, which advertises an address. In the old version: the address itself, unused. */
const WITH_INSTANCE = 4
const LOGIN_DIGEST_BYTES = 8
const RANDOM_BYTES = 16
const MAC_BYTES = 8
const BODY_BYTES = 1 + EPOCH_BYTES + RANDOM_BYTES
const NAMES_AT = BODY_BYTES + MAC_BYTES
/**
 * An address of the old version and the names of a vhost and a queue have at most 255 bytes each. The first two have a byte for
 * their length.
 */
const MAX_LENGTH = Math.ceil(((NAMES_AT + LOGIN_DIGEST_BYTES + 1 + 255 + 1 + 255 + 255) * 4) / 3)

export interface LeaseId {
  epoch: string
  /** Undefined for the connection's own vhost. */
  vhost: string | undefined
  queue: string
  /** Digest of the RabbitMQ user that received it; undefined for the gateway's own user. */
  receivedBy: string | undefined
  /** The name of the instance, if it advertises an address. */
  instance: string | undefined
}

/** The digest of a RabbitMQ user in lease ids. */
export const loginDigest = (owner: string): string => hash('sha256', owner).slice(0, 2 * LOGIN_DIGEST_BYTES)

/** Creates and reads lease ids. */
export class LeaseIds {
  readonly #key: Buffer
  readonly #oldKey: Buffer
  readonly #defaultVhost: string
  readonly #instance: Buffer
  readonly #pool = Buffer.alloc(256 * RANDOM_BYTES)
  #taken = this.#pool.length

  /** @param instance the name of this instance, for other instances */
  constructor(config: Config, instance: string) {
    const [address] = config.AMQP_URL
    // Instances that share a broker share its credentials, and so the key.
    this.#key = secretKey(config, 'lease ids')
    const secret = config.LEASE_SECRET || `${address!.username}\0${address!.password}`
    this.#oldKey = createHmac('sha256', 'rabbitmq-http-gateway lease ids').update(secret).digest()
    this.#defaultVhost = address!.vhost
    this.#instance = Buffer.from(config.ADVERTISE_URL === undefined ? '' : instance, 'base64url')
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
    const version = VERSION | (owner === undefined ? 0 : OF_LOGIN) | (this.#instance.length > 0 ? WITH_INSTANCE : 0)
    const body = Buffer.concat([Buffer.of(version), Buffer.from(epoch, 'base64url'), this.#random()])
    const rest = Buffer.concat([
      Buffer.from(owner ?? '', 'hex'),
      this.#instance,
      withLength(vhost === this.#defaultVhost ? '' : vhost),
      Buffer.from(queue),
    ])
    return Buffer.concat([body, macOf(this.#key, body, rest), rest]).toString('base64url')
  }

  /** The parts of an id; undefined if no instance ever gave it out. */
  read(id: string): LeaseId | undefined {
    if (id.length > MAX_LENGTH || !/^[A-Za-z0-9_-]+$/.test(id)) return undefined
    const bytes = Buffer.from(id, 'base64url')
    const flags = bytes[0]! & (OF_LOGIN | WITH_INSTANCE)
    const version = bytes[0]! - flags
    const key = version === VERSION ? this.#key : version === OLD_VERSION ? this.#oldKey : undefined
    if (!key || bytes.length <= NAMES_AT || bytes.toString('base64url') !== id) return undefined
    const body = bytes.subarray(0, BODY_BYTES)
    const rest = bytes.subarray(NAMES_AT)
    if (!timingSafeEqual(macOf(key, body, rest), bytes.subarray(BODY_BYTES, NAMES_AT))) return undefined
    // The MAC fits, so the rest has the form that create() writes.
    const holderAt = flags & OF_LOGIN ? LOGIN_DIGEST_BYTES : 0
    const hasHolder = (flags & WITH_INSTANCE) !== 0
    const isOld = version === OLD_VERSION
    const namesAt = hasHolder ? (isOld ? textAt(rest, holderAt).end : holderAt + EPOCH_BYTES) : holderAt
    const vhost = textAt(rest, namesAt)
    return {
      epoch: body.toString('base64url', 1, 1 + EPOCH_BYTES),
      vhost: vhost.text || undefined,
      queue: rest.toString('utf8', vhost.end),
      receivedBy: flags & OF_LOGIN ? rest.toString('hex', 0, LOGIN_DIGEST_BYTES) : undefined,
      instance: hasHolder && !isOld ? rest.toString('base64url', holderAt, namesAt) : undefined,
    }
  }
}

const macOf = (key: Buffer, body: Buffer, rest: Buffer): Buffer =>
  createHmac('sha256', key).update(body).update(rest).digest().subarray(0, MAC_BYTES)

function withLength(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.of(bytes.length), bytes])
}

function textAt(bytes: Buffer, at: number): { text: string; end: number } {
  const end = at + 1 + bytes[at]!
  return { text: bytes.toString('utf8', at + 1, end), end }
}
