// The leases held by this instance, and what became of those it has settled. Every transition is synchronous, and this is the
// only place that makes one:
//
//   ACTIVE ── settle ──▶ SETTLING ── barrier ──▶ settled (remembered)
//     │ └ extend ┘           └─ channel or connection gone ──▶ unknown (remembered, then gone)
//     ├─ time is up ──▶ expired: requeued
//     └─ channel, connection or queue gone ──▶ lost

import type { Delivery, Disposition } from '../amqp/consume/delivery.js'
import type { Metrics } from '../metrics.js'

export interface Lease {
  readonly id: string
  readonly vhost: string
  readonly queue: string
  /** ownerDigest() of the login that received it; undefined where that was the gateway's own user. */
  readonly receivedBy: string | undefined
  readonly delivery: Delivery
  /** All times in milliseconds since 1970. */
  readonly leasedAt: number
  expiresAt: number
  /** The end of every extension: the broker's consumer timeout less a minute. */
  readonly lastEnd: number
  /** What it was leased for; an extension without a time takes the same. */
  readonly duration: number
  /** Set once a settle was written to the broker. */
  settling: { wish: SettleAction; outcome: Promise<SettleOutcome> } | undefined
  /** Called once, when the lease is over, however it ended. */
  onEnd: (() => void) | undefined
  slot: number
}

/** What a client asks for. What RabbitMQ is told may be another verdict, where a retry policy says so. */
export type SettleAction = Disposition | 'later'

/** How to settle a message: with a word to RabbitMQ, and before it a copy that takes its place, where there is one. */
export interface Settlement {
  verdict: Disposition
  /** Resolves when the copy is safe. */
  copied?: Promise<void>
}

export type SettleOutcome = 'settled' | 'unknown'
interface RememberedSettle {
  action: SettleAction
  outcome: SettleOutcome
  at: number
}

/** Leases end within this many milliseconds of their time. */
const EXPIRY_TICK_MS = 100
const REMEMBER_SETTLE_MS = 5 * 60_000

export class LeaseTable {
  readonly #metrics: Metrics
  readonly #maxRemembered: number
  readonly #onExpired: (lease: Lease) => Settlement
  readonly #leases = new Map<string, Lease>()
  /** Leases by the tick in which they end: one timer for all, and an extension is a move. */
  readonly #slots = new Map<number, Set<Lease>>()
  /** In order of settling. */
  readonly #remembered = new Map<string, RememberedSettle>()
  #lastSlot = slotOf(Date.now())
  readonly #ticks: NodeJS.Timeout

  /** @param options.onExpired what becomes of a message whose lease ran out */
  constructor(options: { metrics: Metrics; maxRemembered: number; onExpired: (lease: Lease) => Settlement }) {
    this.#metrics = options.metrics
    this.#onExpired = options.onExpired
    this.#maxRemembered = options.maxRemembered
    this.#ticks = setInterval(() => this.#tick(), EXPIRY_TICK_MS)
  }

  get size(): number {
    return this.#leases.size
  }

  get rememberedCount(): number {
    return this.#remembered.size
  }

  add(lease: Lease): void {
    this.#leases.set(lease.id, lease)
    this.#schedule(lease)
    lease.delivery.onLost = () => this.#lost(lease)
  }

  get(id: string): Lease | undefined {
    return this.#leases.get(id)
  }

  /** What became of a lease that is over, for five minutes. */
  remembered(id: string): RememberedSettle | undefined {
    return this.#remembered.get(id)
  }

  extend(lease: Lease, expiresAt: number): void {
    this.#unschedule(lease)
    lease.expiresAt = expiresAt
    this.#schedule(lease)
  }

  /**
   * Writes the verdict to the broker. Resolves after the channel's barrier. Where the message comes again as a copy, it is acknowledged once that is safe: a crash in between makes
   * two of it, and never none. Where there is no copy the lease goes on as it was.
   * @throws what `copied` is rejected with
   */
  settle(lease: Lease, wish: SettleAction, { verdict, copied }: Settlement): Promise<SettleOutcome> {
    this.#unschedule(lease)
    const outcome = copied
      ? copied.then(
          () => this.#write(lease, wish, verdict),
          (error) => {
            lease.settling = undefined
            if (lease.delivery.channel.closed) this.#lost(lease)
            else this.#schedule(lease)
            throw error
          },
        )
      : this.#write(lease, wish, verdict)
    lease.settling = { wish, outcome }
    return outcome
  }

  /** Ends leases before their time, to give their deliveries back: those of them that are still active, in the order given. */
  takeBack(leases: Lease[]): Delivery[] {
    const active = leases.filter((lease) => this.#leases.get(lease.id) === lease && !lease.settling)
    for (const lease of active) this.#remove(lease)
    return active.map(({ delivery }) => delivery)
  }

  /** The queue was deleted, its messages with it. */
  loseQueue(vhost: string, queue: string): void {
    for (const lease of this.#leases.values()) {
      if (lease.vhost !== vhost || lease.queue !== queue || lease.settling) continue
      this.#lost(lease)
      lease.delivery.channel.forget(lease.delivery)
    }
  }

  all(): Lease[] {
    return [...this.#leases.values()]
  }

  close(): void {
    clearInterval(this.#ticks)
  }

  #write(lease: Lease, wish: SettleAction, verdict: Disposition): Promise<SettleOutcome> {
    if (!lease.delivery.channel.settle(lease.delivery, verdict)) return Promise.resolve(this.#ended(lease, wish, 'unknown'))
    return lease.delivery.channel.barrier().then(
      () => this.#ended(lease, wish, 'settled'),
      () => this.#ended(lease, wish, 'unknown'),
    )
  }

  #ended(lease: Lease, wish: SettleAction, outcome: SettleOutcome): SettleOutcome {
    this.#forget(lease)
    if (outcome === 'unknown') this.#metrics.settled('unknown')
    else this.#metrics.settled(wish === 'ack' ? 'acked' : 'nacked')
    this.#remembered.set(lease.id, { action: wish, outcome, at: Date.now() })
    if (this.#remembered.size > this.#maxRemembered) this.#remembered.delete(this.#remembered.keys().next().value!)
    return outcome
  }

  #lost(lease: Lease): void {
    // A settle in flight learns it from its barrier.
    if (lease.settling || !this.#remove(lease)) return
    this.#metrics.settled('lost')
  }

  #remove(lease: Lease): boolean {
    lease.delivery.onLost = undefined
    this.#unschedule(lease)
    return this.#forget(lease)
  }

  #forget(lease: Lease): boolean {
    if (!this.#leases.delete(lease.id)) return false
    lease.onEnd?.()
    return true
  }

  #schedule(lease: Lease): void {
    // Never into a slot that has passed already, whose turn would not come again.
    lease.slot = Math.max(slotOf(lease.expiresAt) + 1, this.#lastSlot + 1)
    const slot = this.#slots.get(lease.slot)
    if (slot) slot.add(lease)
    else this.#slots.set(lease.slot, new Set([lease]))
  }

  #unschedule(lease: Lease): void {
    const slot = this.#slots.get(lease.slot)
    slot?.delete(lease)
    if (slot?.size === 0) this.#slots.delete(lease.slot)
  }

  #tick(): void {
    const now = Date.now()
    const current = slotOf(now)
    for (let slot = this.#lastSlot + 1; slot <= current; slot++) {
      const due = this.#slots.get(slot)
      if (!due) continue
      for (const lease of [...due].sort((a, b) => a.delivery.tag - b.delivery.tag)) {
        this.#remove(lease)
        this.#metrics.settled('expired')
        this.#giveBack(lease, this.#onExpired(lease))
      }
    }
    this.#lastSlot = Math.max(this.#lastSlot, current)
    for (const [id, { at }] of this.#remembered) {
      if (now - at < REMEMBER_SETTLE_MS) break
      this.#remembered.delete(id)
    }
  }

  #giveBack({ delivery }: Lease, { verdict, copied }: Settlement): void {
    if (copied) {
      copied.then(
        () => delivery.channel.settle(delivery, verdict),
        () => delivery.channel.settle(delivery, 'requeue'),
      )
    } else {
      delivery.channel.settle(delivery, verdict)
    }
  }
}

function slotOf(time: number): number {
  return Math.floor(time / EXPIRY_TICK_MS)
}
