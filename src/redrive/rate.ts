// A limit on how many messages a second a redrive moves.

import { now } from '../lib/clock.js'

/** How late a message may be and still be made up for, so that coarse timers do not slow a high rate down. */
const SLACK_MS = 50

/** Spaces messages out evenly. */
export class RateLimit {
  /** Milliseconds between two messages. */
  readonly #interval: number
  #next = now()

  /** @param rate messages a second; undefined: no limit */
  constructor(rate: number | undefined) {
    this.#interval = rate === undefined ? 0 : 1000 / rate
  }

  /** Milliseconds until the next message may be moved. */
  wait(): number {
    return Math.max(0, this.#next - now())
  }

  /** Counts a message. */
  take(): void {
    this.#next = Math.max(this.#next, now() - SLACK_MS) + this.#interval
  }
}
