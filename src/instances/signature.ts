// Signatures of HTTP requests between instances, made with ADVERTISE_SECRET, which is never sent. A request's signature covers
// the epoch of the target, the time and a digest of the body, so a request can be refused before its body is read. A response's
// signature covers the signature of its request, so no other response can be passed off as it.

import { createHmac, hash, timingSafeEqual } from 'node:crypto'
import { wallTime } from '../lib/clock.js'

/** The header that holds the signature, in requests and responses. */
export const SIGNATURE = 'gateway-signature'
/** The greatest age of a request, clock difference included: a recorded request cannot be replayed later. */
const MAX_CLOCK_SKEW_MS = 60_000
const SIGNATURE_FORMAT = /^(v1 ([\w-]{11}) (\d{1,15}) ([\w-]{43})) ([\w-]{43})$/

/** The claims of a signed request. */
export interface Signed {
  epoch: string
  /** SHA-256 of the body, in base64url. The receiver has to compare it with the body. */
  digest: string
  header: string
}

/** SHA-256 of a body, in base64url. */
export const bodyDigest = (body: Buffer): string => hash('sha256', body, 'base64url')

/** Signs and verifies requests and responses with one secret. */
export class Signatures {
  readonly #key: Buffer

  constructor(secret: string) {
    this.#key = createHmac('sha256', 'rabbitmq-http-gateway instances').update(secret).digest()
  }

  /** The signature header of a request. @param time milliseconds since 1970 */
  sign(epoch: string, body: Buffer, time = wallTime()): string {
    const claim = `v1 ${epoch} ${time} ${bodyDigest(body)}`
    return `${claim} ${this.#mac(claim)}`
  }

  /**
   * Reads the signature header of a request; undefined if the secret or the format is wrong, or it is over a minute old or ahead.
   */
  read(header: unknown, time = wallTime()): Signed | undefined {
    const match = typeof header === 'string' ? SIGNATURE_FORMAT.exec(header) : null
    if (!match) return undefined
    const [, claim, epoch, signedAt, digest, mac] = match as unknown as [string, string, string, string, string, string]
    if (!isSame(mac, this.#mac(claim)) || Math.abs(time - Number(signedAt)) > MAX_CLOCK_SKEW_MS) return undefined
    return { epoch, digest, header: header as string }
  }

  /** The signature header of a response. @param header the signature header of its request */
  signAnswer(header: string, body: Buffer): string {
    return this.#mac(`answer ${header} ${bodyDigest(body)}`)
  }

  /** Whether the signature is valid for this response to the request with this signature header. */
  isAnswer(header: string, body: Buffer, signature: unknown): boolean {
    return typeof signature === 'string' && isSame(signature, this.signAnswer(header, body))
  }

  /** The signature of an instance's address. @param instance the instance's name */
  signAddress(instance: string, url: string): string {
    return this.#mac(`address ${instance} ${url}`)
  }

  /** Whether the instance itself, or another one with the secret, told this address. */
  isAddress(instance: string, url: string, signature: unknown): boolean {
    return typeof signature === 'string' && isSame(signature, this.signAddress(instance, url))
  }

  #mac(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('base64url')
  }
}

function isSame(a: string, b: string): boolean {
  const [one, other] = [Buffer.from(a), Buffer.from(b)]
  return one.length === other.length && timingSafeEqual(one, other)
}
