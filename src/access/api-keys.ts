// API keys: who a key stands for. The file has their digests alone.

import { hash, timingSafeEqual } from 'node:crypto'
import type { Log } from '../lib/log.js'
import { readWhole, watch } from '../lib/watched-file.js'
import type { Identity } from './identity.js'
import { type KeyEntry, KeyFileError, readKeyFile } from './key-file.js'
import { Rights } from './rights.js'

interface ApiKey {
  digest: Buffer
  identity: Identity
  expiresAt: number
}

const keyDigest = (key: string): string => hash('sha256', key)

export class ApiKeys {
  readonly #path: string
  readonly #log: Log
  #byDigest: ReadonlyMap<string, ApiKey>
  readonly #unwatch: () => void

  /** Reads the file now, and again whenever it changes. @throws KeyFileError with every mistake in it */
  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
    this.#byDigest = this.#load()
    this.#unwatch = watch(path, () => this.reload())
  }

  /** Reads the file again. With a mistake in it, what was read before stays in force. */
  reload(): void {
    try {
      this.#byDigest = this.#load()
      this.#log.info({ file: this.#path, keys: this.#byDigest.size }, 'read the API keys')
    } catch (error) {
      const { mistakes } = error as KeyFileError
      this.#log.error({ file: this.#path, mistakes }, 'the API keys have mistakes: those from before stay in force')
    }
  }

  /**
   * Whose key it is. The key's digest is what is looked up, which a guess can't be steered towards, and what was found is
   * compared in constant time.
   * @returns undefined: nobody's; expired: it was one
   */
  find(secret: string): Identity | 'expired' | undefined {
    const digest = keyDigest(secret)
    const key = this.#byDigest.get(digest) ?? UNKNOWN_KEY
    const same = timingSafeEqual(Buffer.from(digest, 'hex'), key.digest)
    if (!same || key === UNKNOWN_KEY) return undefined
    return key.expiresAt > Date.now() ? key.identity : 'expired'
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
      return key && key.expiresAt > Date.now() ? key.identity : undefined
    }
    const identity: Identity = { name: `key ${name}`, rights: new Rights(grants), headers, setsUserId, current }
    return { digest: Buffer.from(sha256, 'hex'), identity, expiresAt }
  }
}

/** What an unknown key is compared with, so that it takes as long as a known one. */
const UNKNOWN_KEY: ApiKey = { digest: Buffer.alloc(32), identity: undefined as never, expiresAt: 0 }
