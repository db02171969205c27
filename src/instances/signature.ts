// How instances know each other where they talk over HTTP: both have ADVERTISE_SECRET, and neither sends it. A request is
// signed with the epoch it is for, its time and a digest of its body, so that it can be refused before its body is read; its
// answer is signed with the request's signature, so that nobody else's can be taken for it.

import { createHmac, hash, timingSafeEqual } from 'node:crypto'

/** The header of both. */
export const SIGNATURE = 'gateway-signature'
/** How old a request may be, and how far the clocks of two machines may be apart: one that was overheard is of no use later. */
const MAX_CLOCK_SKEW_MS = 60_000
const SIGNATURE_FORMAT = /^(v1 ([\w-]{11}) (\d{1,15}) ([\w-]{43})) ([\w-]{43})$/

/** What a signed request says of itself. */
export interface Signed {
  epoch: string
  /** Of the body that belongs to it. */
  digest: string
  header: string
}

export const bodyDigest = (body: Buffer): string => hash('sha256', body, 'base64url')

export class Signatures {
  readonly #key: Buffer

  constructor(secret: string) {
    this.#key = createHmac('sha256', 'rabbitmq-http-gateway instances').update(secret).digest()
  }

  /** The header of a request. */
  sign(epoch: string, body: Buffer, now = Date.now()): string {
    const claim = `v1 ${epoch} ${now} ${bodyDigest(body)}`
    return `${claim} ${this.#mac(claim)}`
  }

  /** What the header says, where who wrote it has the secret, and did so just now. */
  read(header: unknown, now = Date.now()): Signed | undefined {
    const match = typeof header === 'string' ? SIGNATURE_FORMAT.exec(header) : null
    if (!match) return undefined
    const [, claim, epoch, time, digest, mac] = match as unknown as [string, string, string, string, string, string]
    if (!isSame(mac, this.#mac(claim)) || Math.abs(now - Number(time)) > MAX_CLOCK_SKEW_MS) return undefined
    return { epoch, digest, header: header as string }
  }

  /** The header of the answer to a request with that header. */
  signAnswer(header: string, body: Buffer): string {
    return this.#mac(`answer ${header} ${bodyDigest(body)}`)
  }

  isAnswer(header: string, body: Buffer, signature: unknown): boolean {
    return typeof signature === 'string' && isSame(signature, this.signAnswer(header, body))
  }

  #mac(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('base64url')
  }
}

function isSame(a: string, b: string): boolean {
  const [one, other] = [Buffer.from(a), Buffer.from(b)]
  return one.length === other.length && timingSafeEqual(one, other)
}
