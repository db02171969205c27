// How fast credentials may be guessed: limits for each user name and for each network that the guesses come from. A guess counts
// before it is checked, so that guesses sent at once cannot exceed a limit; if it turns out right, it no longer counts.

import { hash } from 'node:crypto'
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { ExpiringMap } from '../lib/expiring-map.js'

/** Refused guesses are counted for this long from the first one. */
const WINDOW_MS = 30_000
/** The most counters of user names, and of networks. */
const MAX_COUNTERS = 10_000
const MAX_FOR_USER = 20
/** By the leading bits of an address: a client has one IPv4 address or an IPv6 /64, but may rent many neighbours. */
const NETWORKS = {
  4: [
    { bits: 32, max: 10 },
    { bits: 24, max: 50 },
  ],
  6: [
    { bits: 64, max: 10 },
    { bits: 56, max: 30 },
    { bits: 48, max: 100 },
  ],
} as const

interface Counter {
  refused: number
  asking: number
}

/** A guess that is being checked. */
export interface Guess {
  /** To be called once, with the result of the check. */
  end: (isRefused: boolean) => void
}

/** Counts guesses. */
export class GuessLimits {
  readonly #users = new ExpiringMap<Counter>(MAX_COUNTERS, WINDOW_MS)
  readonly #networks = new ExpiringMap<Counter>(MAX_COUNTERS, WINDOW_MS)

  /**
   * Counts a guess, unless too many before it were refused or are being checked.
   * @param user empty for a token, which names its own user
   * @returns the guess; `busy` if checks under way have to end first; or for how many milliseconds no guess is allowed
   */
  begin(user: string, address: string): Guess | 'busy' | { retryAfter: number } {
    const limits = this.#limitsOf(user, address)
    let isBusy = false
    for (const { kept, key, max } of limits) {
      const { refused, asking } = kept.get(key) ?? { refused: 0, asking: 0 }
      if (refused >= max) return { retryAfter: kept.remaining(key) }
      isBusy ||= refused + asking >= max
    }
    if (isBusy) return 'busy'
    const counters = limits.map(({ kept, key }) => counterOf(kept, key))
    for (const counter of counters) counter.asking++
    return {
      end: (isRefused) => {
        for (const counter of counters) {
          counter.asking--
          if (isRefused) counter.refused++
        }
      },
    }
  }

  #limitsOf(user: string, address: string): { kept: ExpiringMap<Counter>; key: string; max: number }[] {
    const networks = networksOf(address).map((network) => ({ kept: this.#networks, ...network }))
    return user === '' ? networks : [{ kept: this.#users, key: hash('sha256', user), max: MAX_FOR_USER }, ...networks]
  }
}

/** Its window begins when it is made. */
function counterOf(kept: ExpiringMap<Counter>, key: string): Counter {
  const known = kept.get(key)
  if (known) return known
  const made = { refused: 0, asking: 0 }
  kept.set(key, made)
  return made
}

function networksOf(address: string): { key: string; max: number }[] {
  // A connection that is already closed has no address.
  if (isIP(address) === 0) return [{ key: '', max: NETWORKS[4][0].max }]
  const parsed = ipaddr.process(address)
  const bytes = parsed.toByteArray()
  return NETWORKS[parsed.kind() === 'ipv4' ? 4 : 6].map(({ bits, max }) => ({ key: `${bytes.slice(0, bits / 8)}/${bits}`, max }))
}
