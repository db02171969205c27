// The public keys that verify tokens: a JSON Web Key Set (RFC 7517) from a file or a URL.
//
// Not jose's createRemoteJWKSet, because it cannot keep these promises: its cooldown runs from the last successful read, so while
// the issuer is away every token with an unknown key would ask it again; it reads only when a token needs a key, so readiness
// could not tell whether keys were ever read, and withdrawn keys would stay; it serves no file; and it bounds no response size.

import { calculateJwkThumbprint, createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import type { Config } from '../config/index.js'
import { type Backoff, waitAfter } from '../lib/backoff.js'
import { withoutMark } from '../lib/byte-order-mark.js'
import { now } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import { readWhole, watch } from '../lib/watched-file.js'
import { Problem } from '../problems.js'

const FETCH_TIMEOUT_MS = 5000
const MAX_JWKS_BYTES = 1024 * 1024
const REFRESH_MS = 5 * 60_000
/** After a failed read of the URL. */
const FETCH_BACKOFF: Backoff = { initial: 1000, factor: 2, max: REFRESH_MS, jitter: 0 }
/** Between two reads for the sake of a token that no key verifies: tokens of strangers can name any number of keys. */
const COOLDOWN_MS = 10_000

/** A mistake in the key set; its message completes "the key set …". */
export class KeySetError extends Error {}

interface KeySet {
  resolve: JWTVerifyGetKey
  thumbprints: ReadonlySet<string>
}

/**
 * The key set at JWT_JWKS_URL or in JWT_JWKS_FILE. The URL is read every 5 minutes, and after a failure in 1 s, 2 s, 4 s and so
 * on; the file is read when it changes. Keys that were read stay in force until a newer set could be read.
 */
export class Jwks {
  readonly #url: string
  readonly #path: string
  readonly #log: Log
  #set: KeySet | undefined
  #loading: Promise<void> | undefined
  #attemptedAt = Number.NEGATIVE_INFINITY
  #failures = 0
  #timer: NodeJS.Timeout | undefined
  #unwatch: (() => void) | undefined
  #closed = false

  /** Reads the file before it returns, and begins to read the URL. @throws KeySetError with the mistake in the file */
  constructor({ JWT_JWKS_URL, JWT_JWKS_FILE }: Pick<Config, 'JWT_JWKS_URL' | 'JWT_JWKS_FILE'>, log: Log) {
    this.#url = JWT_JWKS_URL
    this.#path = JWT_JWKS_FILE
    this.#log = log
    if (this.#path) {
      parseKeySet(readFile(this.#path))
      this.#unwatch = watch(this.#path, () => this.reload())
    }
    this.reload()
  }

  /** Whether keys were read at all. */
  get loaded(): boolean {
    return this.#set !== undefined
  }

  /** Whether the key with this thumbprint (RFC 7638) is in the set. */
  has(thumbprint: string): boolean {
    return this.#set?.thumbprints.has(thumbprint) === true
  }

  /**
   * Finds the key for a token.
   * @throws Problem authority_unavailable if no keys were ever read; jose's errors if the set has no such key
   */
  readonly resolve: JWTVerifyGetKey = async (header, token) => {
    if (!this.#set) await this.#loading
    if (!this.#set) throw new Problem('authority_unavailable', 'The keys that verify tokens could not be read yet.')
    return this.#set.resolve(header, token)
  }

  /** Reads the URL again for a token that no key verifies, at most once per 10 s. @returns whether it was read */
  async refresh(): Promise<boolean> {
    if (!this.#url || (now() - this.#attemptedAt < COOLDOWN_MS && !this.#loading)) return false
    this.reload()
    await this.#loading
    return this.#failures === 0
  }

  /** Reads the keys again. If that fails, the keys from before stay in force. */
  reload(): void {
    this.#loading ??= this.#load()
      .then(() => {
        this.#failures = 0
      })
      .catch((error: Error) => {
        this.#failures++
        const source = this.#url ? { url: withoutQuery(this.#url) } : { file: this.#path }
        this.#log.error(
          { ...source, reason: fetchFailure(error) },
          'keys of tokens cannot be read; the previous keys stay in force',
        )
      })
      .finally(() => {
        this.#loading = undefined
        if (this.#url) this.#schedule()
      })
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#unwatch?.()
    this.#closed = true
  }

  #schedule(): void {
    if (this.#closed) return
    clearTimeout(this.#timer)
    const delay = this.#failures === 0 ? REFRESH_MS : waitAfter(this.#failures, FETCH_BACKOFF)
    this.#timer = setTimeout(() => this.reload(), delay).unref()
  }

  async #load(): Promise<void> {
    this.#attemptedAt = now()
    await this.#use(parseKeySet(this.#url ? await fetchText(this.#url) : readFile(this.#path)))
  }

  async #use(json: JSONWebKeySet): Promise<void> {
    const thumbprints = await Promise.all(json.keys.map((key) => calculateJwkThumbprint(key).catch(() => '')))
    this.#set = { resolve: createLocalJWKSet(json), thumbprints: new Set(thumbprints.filter(Boolean)) }
    this.#log.info({ keys: thumbprints.length }, 'keys of tokens read')
  }
}

function parseKeySet(text: string): JSONWebKeySet {
  let json: unknown
  try {
    json = JSON.parse(withoutMark(text))
  } catch {
    throw new KeySetError('is not JSON')
  }
  const { keys } = (json ?? {}) as { keys?: unknown }
  if (!Array.isArray(keys)) throw new KeySetError('is not an object {"keys": […]}')
  // Symmetric keys do not count: everyone who can verify a token with one could also sign tokens.
  const usable = keys.filter((key) => ['RSA', 'EC', 'OKP'].includes(key?.kty) && (key.use ?? 'sig') === 'sig')
  if (usable.length === 0) throw new KeySetError('has no key that verifies signatures (kty RSA, EC or OKP)')
  return { keys: usable }
}

function readFile(path: string): string {
  try {
    return readWhole(path)
  } catch (error) {
    throw new KeySetError((error as Error).message)
  }
}

async function fetchText(url: string): Promise<string> {
  const response = await fetch(url, {
    headers: { accept: 'application/jwk-set+json, application/json' },
    redirect: 'error',
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
  })
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += (chunk as Uint8Array).length
    if (size > MAX_JWKS_BYTES) throw new KeySetError(`is larger than ${MAX_JWKS_BYTES} bytes`)
    chunks.push(chunk as Uint8Array)
  }
  if (!response.ok) throw new KeySetError(`was answered with status ${response.status}`)
  return new TextDecoder().decode(Buffer.concat(chunks)) // leaves a byte order mark out
}

/** The query may have a key of the service in it, which no log shows. */
const withoutQuery = (text: string): string => {
  const { origin, pathname } = new URL(text)
  return origin + pathname
}

/** Node's fetch only says "fetch failed"; its cause says why. */
const fetchFailure = (error: Error): string =>
  error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message
