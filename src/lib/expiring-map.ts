// A map that forgets. Not toad-cache's own expiry: it goes by the wall clock, which can be set.

import { LruMap } from 'toad-cache'
import { now } from './clock.js'

/** Keeps values for a time, and at most a number of them: the least recently used one is forgotten first. */
export class ExpiringMap<T> {
  readonly #entries: LruMap<{ value: T; expiresAt: number }>
  readonly #lifetime: number

  /** @param lifetime of an entry since `set()`, in milliseconds */
  constructor(max: number, lifetime: number) {
    this.#entries = new LruMap(max)
    this.#lifetime = lifetime
  }

  get(key: string): T | undefined {
    const entry = this.#entries.get(key)
    if (!entry || entry.expiresAt > now()) return entry?.value
    this.#entries.delete(key)
    return undefined
  }

  set(key: string, value: T): void {
    this.#entries.set(key, { value, expiresAt: now() + this.#lifetime })
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }

  /** Milliseconds until the entry expires; 0 if there is none. */
  remaining(key: string): number {
    const entry = this.#entries.get(key)
    return entry ? Math.max(0, entry.expiresAt - now()) : 0
  }
}
