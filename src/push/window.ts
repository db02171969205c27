// The delivery window: how many deliveries of a subscription run at once on this instance. It starts at one, doubles after as
// many successes as it is wide, and halves at a failure. A circuit breaker stops deliveries to an endpoint that is down, and
// probes it later:
//
//   CLOSED ── three failures in a row, one at a time ──▶ OPEN, resting ── time is up ──▶ OPEN, one probe
//     ▲                                                     ▲─────────────── it fails ────────┤
//     └───────────────────────────────────────────────────────────────────── it succeeds ─────┘

import { type Backoff, waitAfter } from '../lib/backoff.js'
import { now } from '../lib/clock.js'

const FAILURES_TO_OPEN = 3
/** How long an endpoint that is down is left alone. */
const OPEN_BACKOFF: Backoff = { initial: 1000, factor: 2, max: 60_000, jitter: 0 }

/** The window and the circuit breaker of one endpoint. */
export class DeliveryWindow {
  #limit: number
  #window = 1
  #successes = 0
  /** Failures in a row with a window of one. */
  #failures = 0
  /** How often it opened, or was slowed down, since the last success. */
  #rests = 0
  #open = false
  #restUntil = 0
  readonly #now: () => number

  constructor(limit: number, clock: () => number = now) {
    this.#limit = limit
    this.#now = clock
  }

  get window(): number {
    return this.#window
  }

  /** Whether the endpoint counts as down. */
  get isOpen(): boolean {
    return this.#open
  }

  /** Until when to deliver nothing, on the monotonic clock; undefined if deliveries may run. */
  get restUntil(): number | undefined {
    return this.#now() < this.#restUntil ? this.#restUntil : undefined
  }

  /** The widest that the window may be. */
  set limit(limit: number) {
    this.#limit = limit
    this.#window = Math.min(this.#window, limit)
  }

  /** Starts again, as for an unknown endpoint. */
  reset(): void {
    this.#window = 1
    this.#successes = this.#failures = this.#rests = this.#restUntil = 0
    this.#open = false
  }

  succeeded(): void {
    this.#failures = 0
    // A delivery that ran when others failed says nothing about the endpoint now.
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
   * The endpoint asks for a pause.
   * @param rest milliseconds; undefined: one second, doubled each time
   * @returns how long the pause is
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
    // Several such responses at the same time count once.
    const going = this.restUntil
    const rest = asked ?? (going === undefined ? waitAfter(++this.#rests, OPEN_BACKOFF) : going - this.#now())
    this.#restUntil = Math.max(this.#restUntil, this.#now() + rest)
    return rest
  }
}
