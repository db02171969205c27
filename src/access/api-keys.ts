// API keys, as the key file lists them. The file holds digests only, and so does the memory of the gateway.

import { hash, timingSafeEqual } from 'node:crypto'
import { ConfigError } from '../config/index.js'
import { wallTime } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import { readWhole, watch } from '../lib/watched-file.js'
import type { Problem } from '../problems.js'
import { type AuthenticationRequest, type Authenticator, type AuthenticatorOptions, bearerRefusal } from './authenticator.js'
import type { Identity } from './identity.js'
import { type KeyEntry, KeyFileError, readKeyFile } from './key-file.js'
import { Rights } from './rights.js'

interface ApiKey {
  digest: Buffer
  identity: Identity
  /** Milliseconds since 1970. */
  expiresAt: number
}

/** The API keys, if AUTH names them. @throws ConfigError with every mistake in the key file */
export function createApiKeys({ config, log }: AuthenticatorOptions): ApiKeys | undefined {
  if (!config.AUTH.includes('keys')) return undefined
  const path = config.API_KEYS_FILE
  try {
    return new ApiKeys(path, log)
  } catch (error) {
    if (!(error instanceof KeyFileError)) throw error
    throw new ConfigError(error.mistakes.map((mistake) => `API_KEYS_FILE ${path}: ${mistake}`))
  }
}

/** Authenticates clients by the API keys of a file, which is read again when it changes. */
export class ApiKeys implements Authenticator {
  readonly credential = 'key'
  readonly #path: string
  readonly #log: Log
  #byDigest: ReadonlyMap<string, ApiKey>
  readonly #unwatch: () => void

  /** Reads the file, and reads it again whenever it changes. @throws KeyFileError with every mistake in it */
  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
    this.#byDigest = this.#load()
    this.#unwatch = watch(path, () => this.reload())
  }

  /** Reads the file again. If it has mistakes, the keys from before stay in force. */
  reload(): void {
    try {
      this.#byDigest = this.#load()
      this.#log.info({ file: this.#path, keys: this.#byDigest.size }, 'API keys read')
    } catch (error) {
      if (!(error instanceof KeyFileError)) throw error
      const { mistakes } = error
      this.#log.error({ file: this.#path, mistakes }, 'API key file has mistakes; the previous keys stay in force')
    }
  }

  /**
   * Looks up the owner of a key. The lookup is by the key's digest, which a guess cannot be steered towards, and the digests are
   * then compared in constant time.
   * @returns undefined for an unknown key; Problem `unauthorized` for an expired one
   */
  find({ credentials }: Pick<AuthenticationRequest, 'credentials'>): Identity | Problem | undefined {
    if (typeof credentials === 'string') return undefined
    const digest = hash('sha256', credentials.secret)
    const key = this.#byDigest.get(digest) ?? UNKNOWN_KEY
    const same = timingSafeEqual(Buffer.from(digest, 'hex'), key.digest)
    if (!same || key === UNKNOWN_KEY) return undefined
    return key.expiresAt > wallTime() ? key.identity : bearerRefusal('The key has expired.', true)
  }

  close(): void {
    this.#unwatch()
  }

  #load(): ReadonlyMap<string, ApiKey> {
    let text: string
    try {
      text = readWhole(this.#path)
    } catch (error) {
      throw new KeyFileError([(error as Error).message])
    }
    return new Map(readKeyFile(text).map((entry): [string, ApiKey] => [entry.sha256, this.#key(entry)]))
  }

  #key({ name, sha256, grants, expiresAt = Number.POSITIVE_INFINITY, headers, setsUserId }: KeyEntry): ApiKey {
    const current = () => {
      const key = this.#byDigest.get(sha256)
      return key && key.expiresAt > wallTime() ? key.identity : undefined
    }
    const identity: Identity = { name: `key ${name}`, rights: new Rights(grants), headers, setsUserId, current }
    return { digest: Buffer.from(sha256, 'hex'), identity, expiresAt }
  }
}

/** What an unknown key is compared with, so that it takes as long as a known one. */
const UNKNOWN_KEY: ApiKey = { digest: Buffer.alloc(32), identity: undefined as never, expiresAt: 0 }
