// So many a second, and never more.

/** In milliseconds: a timer that comes late is made up for, so that a high rate is reached. */
const SLACK_MS = 50

export class RateLimit {
  readonly #interval: number
  #next = Date.now()

  /** @param rate a second; undefined: as fast as it goes */
  constructor(rate: number | undefined) {
    this.#interval = rate === undefined ? 0 : 1000 / rate
  }

  /** Milliseconds until the next one may be taken. */
  wait(): number {
    return Math.max(0, this.#next - Date.now())
  }

  take(): void {
    this.#next = Math.max(this.#next, Date.now() - SLACK_MS) + this.#interval
  }
}
