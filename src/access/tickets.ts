// Tickets for streams: a browser's EventSource can send no Authorization header, so a ticket in the URL stands for it. A ticket
// holds the credentials of its maker, encrypted. They are checked again at each use, so a ticket never allows more than its maker
// may do at that moment, and nothing about it has to be stored or shared.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { type Config, secretKey } from '../config/index.js'
import { wallTime } from '../lib/clock.js'

const CIPHER = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** How long a ticket is good for a first connection. */
export const CONNECT_WITHIN_MS = 60_000
/** How long a client that was connected may reconnect with it. */
const RECONNECT_WITHIN_MS = 60 * 60_000

/** What a ticket allows. */
export interface Ticket {
  /** The `Authorization` header of its maker; undefined if they sent none. */
  readonly authorization: string | undefined
  readonly vhost: string
  readonly queue: string
  /** The parameters of the stream. */
  readonly query: Readonly<Record<string, unknown>>
}

/** Makes and opens tickets. Instances that share a secret open each other's. */
export class Tickets {
  readonly #key: Buffer

  constructor(config: Config) {
    this.#key = secretKey(config, 'stream tickets')
  }

  /** A new ticket, and the time in Unix milliseconds until which a client may connect with it for the first time. */
  create(ticket: Ticket): { ticket: string; expiresAt: number } {
    const madeAt = wallTime()
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(CIPHER, this.#key, nonce)
    const text = cipher.update(JSON.stringify({ ...ticket, madeAt }))
    const sealed = Buffer.concat([nonce, text, cipher.final(), cipher.getAuthTag()])
    return { ticket: sealed.toString('base64url'), expiresAt: madeAt + CONNECT_WITHIN_MS }
  }

  /**
   * Opens a ticket.
   * @param reconnects whether the client was connected before
   * @returns undefined if no instance made it, or if it has expired
   */
  open(sealed: string, reconnects: boolean): Ticket | undefined {
    const read = this.#decrypt(Buffer.from(sealed, 'base64url'))
    if (!read) return undefined
    const { madeAt, ...ticket } = read
    return wallTime() - madeAt <= (reconnects ? RECONNECT_WITHIN_MS : CONNECT_WITHIN_MS) ? ticket : undefined
  }

  #decrypt(sealed: Buffer): (Ticket & { madeAt: number }) | undefined {
    if (sealed.length <= NONCE_BYTES + TAG_BYTES) return undefined
    const decipher = createDecipheriv(CIPHER, this.#key, sealed.subarray(0, NONCE_BYTES))
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES))
    const text = decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES))
    try {
      return JSON.parse(Buffer.concat([text, decipher.final()]).toString())
    } catch {
      return undefined // its tag does not fit
    }
  }
}
