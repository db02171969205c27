// The public keys that tokens are signed with: a JSON Web Key Set (RFC 7517), from a file or a URL. What was read once stays in
// force until something else could be read: an issuer that is away for a while harms nobody whose key is known.

import { calculateJwkThumbprint, createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import { readWhole, watch } from '../lib/watched-file.js'
import { Problem } from '../problems.js'

const FETCH_TIMEOUT_MS = 5000
const MAX_JWKS_BYTES = 1024 * 1024
const REFRESH_MS = 5 * 60_000
const FIRST_JWKS_RETRY_MS = 1000
/** Between two looks for a key that is not known: strangers can name as many as they like. */
const COOLDOWN_MS = 10_000

/** A mistake in the key set; its message completes "the key set …". */
export class KeySetError extends Error {}

interface KeySet {
  resolve: JWTVerifyGetKey
  thumbprints: ReadonlySet<string>
}

export class Jwks {
  readonly #url: string
  readonly #path: string
  readonly #log: Log
  #set: KeySet | undefined
  #loading: Promise<void> | undefined
  #lookedAt = 0
  #failures = 0
  #timer: NodeJS.Timeout | undefined
  #unwatch: (() => void) | undefined
  #closed = false

  /** Reads the file now, and again when it changes; a URL from now on. @throws KeySetError with what is wrong with the file */
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

  /** Whether keys are known at all. */
  get loaded(): boolean {
    return this.#set !== undefined
  }

  /** Whether the key of that thumbprint (RFC 7638) is still one of them. */
  has(thumbprint: string): boolean {
    return this.#set?.thumbprints.has(thumbprint) === true
  }

  /**
   * The key for a token. One that is not known is looked for at the URL once more, every ten seconds at most.
   * @throws Problem authority_unavailable: no key was ever known; and what jose says where there is no such key
   */
  readonly resolve: JWTVerifyGetKey = async (header, token) => {
    if (!this.#set) await this.#loading
    if (!this.#set) throw new Problem('authority_unavailable', "The keys that tokens are signed with can't be had just now.")
    try {
      return await this.#set.resolve(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !this.#url || Date.now() - this.#lookedAt < COOLDOWN_MS) throw error
      this.reload()
      await this.#loading
      return await this.#set.resolve(header, token)
    }
  }

  /** Reads the keys again. Where that fails, those from before stay in force. */
  reload(): void {
    this.#loading ??= this.#load()
      .then(() => {
        this.#failures = 0
      })
      .catch((error: Error) => {
        this.#failures++
        const from = this.#url ? { url: this.#url } : { file: this.#path }
        this.#log.error(
          { ...from, reason: fetchFailure(error) },
          "the keys of tokens can't be read: those from before stay in force",
        )
      })
      .finally(() => {
        this.#loading = undefined
        if (this.#url) this.#again()
      })
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#unwatch?.()
    this.#closed = true
  }

  #again(): void {
    if (this.#closed) return
    clearTimeout(this.#timer)
    const delay =
      this.#failures === 0 ? REFRESH_MS : Math.min(REFRESH_MS, FIRST_JWKS_RETRY_MS * 2 ** Math.min(this.#failures - 1, 10))
    this.#timer = setTimeout(() => this.reload(), delay).unref()
  }

  async #load(): Promise<void> {
    this.#lookedAt = Date.now()
    await this.#use(parseKeySet(this.#url ? await fetchText(this.#url) : readFile(this.#path)))
  }

  async #use(json: JSONWebKeySet): Promise<void> {
    const thumbprints = await Promise.all(json.keys.map((key) => calculateJwkThumbprint(key).catch(() => '')))
    this.#set = { resolve: createLocalJWKSet(json), thumbprints: new Set(thumbprints.filter(Boolean)) }
    this.#log.info({ keys: thumbprints.length }, 'read the keys of tokens')
  }
}

function parseKeySet(text: string): JSONWebKeySet {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new KeySetError('is not JSON')
  }
  const { keys } = (json ?? {}) as { keys?: unknown }
  if (!Array.isArray(keys)) throw new KeySetError('is not an object {"keys": […]}')
  // What both sides know is no key to tell with who signed: a secret in a public place is none.
  const usable = keys.filter((key) => ['RSA', 'EC', 'OKP'].includes(key?.kty) && (key.use ?? 'sig') === 'sig')
  if (usable.length === 0) throw new KeySetError('has no key to check signatures with (kty RSA, EC or OKP)')
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
  if (!response.ok) throw new KeySetError(`was answered with ${response.status}`)
  return Buffer.concat(chunks).toString('utf8')
}

/** What fetch throws says "fetch failed", and its cause why. */
const fetchFailure = (error: Error): string =>
  error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message
