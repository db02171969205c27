// How many deliveries of a subscription run at once on this instance: one at first, twice as many each time that as many went
// well, half as many when one fails. An endpoint that is down is left alone for a while, then tried with one delivery:
//
//   CLOSED ── three failures in a row, one at a time ──▶ OPEN, resting ── time is up ──▶ OPEN, one probe
//     ▲                                                     ▲─────────────── it fails ────────┤
//     └───────────────────────────────────────────────────────────────────── it succeeds ─────┘

import { type Backoff, waitAfter } from '../lib/backoff.js'

const FAILURES_TO_OPEN = 3
/** How long an endpoint that is down is left alone. */
const OPEN_BACKOFF: Backoff = { initial: 1000, factor: 2, max: 60_000, jitter: 0 }

export class DeliveryWindow {
  #limit: number
  #window = 1
  #successes = 0
  /** In a row, with a window of one. */
  #failures = 0
  /** How often it opened, or was slowed down, since the last success. */
  #rests = 0
  #open = false
  #restUntil = 0
  readonly #now: () => number

  constructor(limit: number, now: () => number = Date.now) {
    this.#limit = limit
    this.#now = now
  }

  get window(): number {
    return this.#window
  }

  /** Whether the endpoint counts as down. */
  get isOpen(): boolean {
    return this.#open
  }

  /** Until when nothing is to be delivered, in milliseconds since 1970; undefined where it may be now. */
  get restUntil(): number | undefined {
    return this.#now() < this.#restUntil ? this.#restUntil : undefined
  }

  /** The most that there may ever be. */
  set limit(limit: number) {
    this.#limit = limit
    this.#window = Math.min(this.#window, limit)
  }

  /** From the beginning, as for an endpoint that is not known. */
  reset(): void {
    this.#window = 1
    this.#successes = this.#failures = this.#rests = this.#restUntil = 0
    this.#open = false
  }

  succeeded(): void {
    this.#failures = 0
    // One that was under way when the others failed says nothing about now.
    if (this.restUntil !== undefined) return
    this.#open = false
    this.#rests = 0
    if (++this.#successes < this.#window) return
    this.#window = Math.min(this.#limit, this.#window * 2)
    this.#successes = 0
  }

  failed(): void {
    if (this.restUntil !== undefined) return
    this.#failures = this.#window === 1 ? this.#failures + 1 : 0
    this.#halve()
    if (!this.#open && this.#failures < FAILURES_TO_OPEN) return
    this.#open = true
    this.#rest(undefined)
  }

  /**
   * The endpoint asks to be left alone.
   * @param rest milliseconds; undefined: a second, and twice as long each time
   * @returns for how long
   */
  slowed(rest: number | undefined): number {
    if (this.restUntil === undefined) this.#halve()
    return this.#rest(rest)
  }

  #halve(): void {
    this.#window = Math.max(1, Math.floor(this.#window / 2))
    this.#successes = 0
  }

  #rest(asked: number | undefined): number {
    // Several answers of the same moment are one.
    const going = this.restUntil
    const rest = asked ?? (going === undefined ? waitAfter(++this.#rests, OPEN_BACKOFF) : going - this.#now())
    this.#restUntil = Math.max(this.#restUntil, this.#now() + rest)
    return rest
  }
}
