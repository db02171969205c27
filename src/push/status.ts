// The instances' reports about their subscriptions, so that any instance answers for all.

import { type Definitions, definitionKey } from '../definitions/definitions.js'
import { now, wallTime, wallTimeAt } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import type { Worker } from './worker.js'

const STATUS_TOPIC = 'push'
/** Between two reports of an instance that has news. */
const BROADCAST_INTERVAL_MS = 2000
/** Between two reports of an instance that has no news. */
const REPEAT_INTERVAL_MS = 8000
/** Older reports do not count: their instance is gone. */
const MAX_STATUS_AGE_MS = 20_000

export interface SubscriptionStatus {
  state: 'running' | 'paused' | 'failing'
  delivered: number
  failed: number
  inFlight: number
  lastError: { text: string; at: number } | undefined
  /** Milliseconds since 1970. */
  nextAttempt: number | undefined
}

/** The report of one instance about one subscription. Times are in milliseconds since 1970; 0: never. */
interface InstanceStats {
  delivered: number
  failed: number
  inFlight: number
  isFailing: boolean
  lastSuccess: number
  lastFailure: number
  error?: { text: string; at: number }
  next?: number
}

/** Sends this instance's reports, and sums up those of all. */
export class StatusReports {
  readonly #definitions: Definitions
  readonly #log: Log
  readonly #workers: ReadonlyMap<string, Worker>
  readonly #timer: NodeJS.Timeout
  #last = '{}'
  #lastAt = Number.NEGATIVE_INFINITY

  constructor({ definitions, log }: { definitions: Definitions; log: Log }, workers: ReadonlyMap<string, Worker>) {
    this.#definitions = definitions
    this.#log = log
    this.#workers = workers
    this.#timer = setInterval(() => void this.#broadcast(), BROADCAST_INTERVAL_MS)
  }

  /** The status over this instance and all others that have reported lately. */
  status(key: string): SubscriptionStatus {
    const words = this.#definitions
      .lastBroadcasts(STATUS_TOPIC, MAX_STATUS_AGE_MS)
      .map(({ value }) => (value as Record<string, InstanceStats>)[key])
    const own = this.#workers.get(key)
    const all = [...words, own && instanceStats(own)].filter((word) => word !== undefined)
    const sum = (of: 'delivered' | 'failed' | 'inFlight') => all.reduce((total, word) => total + word[of], 0)
    const last = (of: 'lastSuccess' | 'lastFailure') => Math.max(0, ...all.map((word) => word[of]))
    const errors = all.flatMap(({ error }) => error ?? []).sort((a, b) => b.at - a.at)
    const attempts = all.flatMap(({ next }) => next ?? []).filter((at) => at > wallTime())
    const isFailing = all.some((word) => word.isFailing) || last('lastFailure') > last('lastSuccess')
    return {
      state: own?.isPaused ? 'paused' : isFailing ? 'failing' : 'running',
      delivered: sum('delivered'),
      failed: sum('failed'),
      inFlight: sum('inFlight'),
      lastError: errors[0],
      nextAttempt: attempts.length > 0 ? Math.min(...attempts) : undefined,
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }

  async #broadcast(): Promise<void> {
    const words: Record<string, InstanceStats> = {}
    for (const worker of this.#workers.values()) {
      const word = instanceStats(worker)
      if (word.delivered + word.failed + word.inFlight > 0 || word.error) words[definitionKey(worker.vhost, worker.name)] = word
    }
    const text = JSON.stringify(words)
    const hasNews = text !== this.#last
    if (!hasNews && (text === '{}' || now() - this.#lastAt < REPEAT_INTERVAL_MS)) return
    this.#last = text
    this.#lastAt = now()
    await this.#definitions.broadcast(STATUS_TOPIC, words).catch((error) => {
      this.#last = '' // so that it is sent again
      this.#log.debug({ err: error }, 'report about subscriptions could not be sent')
    })
  }
}

function instanceStats({ stats: told, inFlight, isFailing, nextAttempt }: Worker): InstanceStats {
  const { delivered, failed, lastSuccess, lastFailure, lastError } = told
  return {
    delivered,
    failed,
    inFlight,
    isFailing,
    lastSuccess: lastSuccess && wallTimeAt(lastSuccess),
    lastFailure: lastFailure && wallTimeAt(lastFailure),
    ...(lastError && { error: { text: lastError.text.slice(0, 200), at: wallTimeAt(lastError.at) } }),
    ...(nextAttempt !== undefined && { next: wallTimeAt(nextAttempt) }),
  }
}
