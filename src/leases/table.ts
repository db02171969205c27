// The leases held by this instance, and the outcome of those it has settled. Every transition is synchronous and made here:
//
//   ACTIVE ── settle ──▶ SETTLING ── barrier ──▶ settled (remembered)
//     │ └ extend ┘           ├─ channel or connection gone ──▶ unknown (remembered, then gone)
//     │                      └─ queue gone ──▶ gone (remembered)
//     ├─ time is up ──▶ expired: requeued
//     └─ channel, connection or queue gone ──▶ lost

import { FifoMap } from 'toad-cache'
import type { Delivery, Disposition } from '../amqp/consume/delivery.js'
import { now } from '../lib/clock.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'

export interface Lease {
  readonly id: string
  readonly vhost: string
  readonly queue: string
  /** `loginDigest()` of the RabbitMQ user that received it; undefined for the gateway's own user. */
  readonly receivedBy: string | undefined
  /** Whether the retry policy of the queue leaves it alone: a subscription has its own rules. */
  readonly ignoresPolicy: boolean
  readonly delivery: Delivery
  /** On the monotonic clock, as all times here. */
  readonly leasedAt: number
  expiresAt: number
  /** No extension goes beyond this time: RabbitMQ's consumer timeout less a minute. */
  readonly lastEnd: number
  /** Milliseconds that it was leased for. An extension without a duration takes the same. */
  readonly duration: number
  /** Set once a settle has begun. */
  settling: { action: SettleAction; outcome: Promise<SettleOutcome> } | undefined
  /** Called once when the lease is over, however it ended. */
  onEnd: (() => void) | undefined
  slot: number
}

/** What a client asks for. A retry policy may turn it into another disposition. */
export type SettleAction = Disposition | 'later'

/** How a message is settled. If a copy takes its place, that is known once the copy is safe; it rejects if there is none. */
export type Settlement = Disposition | Promise<Disposition>

/** gone: the queue was deleted before RabbitMQ was told. */
export type SettleOutcome = 'settled' | 'unknown' | 'gone'
interface RememberedSettle {
  action: SettleAction
  /** expired: the lease ran out unsettled. */
  outcome: SettleOutcome | 'expired'
  at: number
}

/** Leases expire at most this many milliseconds late. */
const EXPIRY_TICK_MS = 100
const REMEMBER_SETTLE_MS = 5 * 60_000

/** The state of every lease held here. */
export class LeaseTable {
  readonly #metrics: Metrics
  readonly #onExpired: (lease: Lease) => Settlement
  readonly #leases = new Map<string, Lease>()
  /** Leases by the tick in which they expire: one timer for all, and an extension is a move. */
  readonly #slots = new Map<number, Set<Lease>>()
  /** In order of settling. */
  readonly #remembered: FifoMap<RememberedSettle>
  readonly #remembers: boolean
  #lastSlot = slotOf(now())
  readonly #ticks: NodeJS.Timeout

  /**
   * @param options.maxRemembered how many settles are remembered; the oldest is forgotten first
   * @param options.onExpired how to settle the message of an expired lease
   */
  constructor(options: { metrics: Metrics; maxRemembered: number; onExpired: (lease: Lease) => Settlement }) {
    this.#metrics = options.metrics
    this.#onExpired = options.onExpired
    this.#remembered = new FifoMap(options.maxRemembered)
    this.#remembers = options.maxRemembered > 0 // for the map, 0 is no limit
    this.#ticks = setInterval(() => this.#tick(), EXPIRY_TICK_MS)
  }

  /** How many leases are held. */
  get size(): number {
    return this.#leases.size
  }

  /** How many settles are remembered. */
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

  /** How a lease was settled, for five minutes after. */
  remembered(id: string): RememberedSettle | undefined {
    return this.#remembered.get(id)
  }

  extend(lease: Lease, expiresAt: number): void {
    this.#unschedule(lease)
    lease.expiresAt = expiresAt
    this.#schedule(lease)
  }

  /**
   * Settles a lease. Resolves after the channel's barrier. If a copy takes the message's place, the message is acknowledged once
   * the copy is safe: a crash in between leaves two messages, and never none. If the copy fails, the lease goes on.
   * @throws what the settlement rejects with
   */
  settle(lease: Lease, action: SettleAction, settlement: Settlement): Promise<SettleOutcome> {
    this.#unschedule(lease)
    const outcome = isPromise(settlement)
      ? settlement.then(
          (disposition) => this.#write(lease, action, disposition),
          (error) => {
            lease.settling = undefined
            if (lease.delivery.channel.closed) this.#lost(lease)
            else this.#schedule(lease)
            throw error
          },
        )
      : this.#write(lease, action, settlement)
    lease.settling = { action, outcome }
    return outcome
  }

  /** Ends the leases that are still active, in the order given, and returns their deliveries. */
  takeBack(leases: Lease[]): Delivery[] {
    const active = leases.filter((lease) => this.#leases.get(lease.id) === lease && !lease.settling)
    for (const lease of active) this.#remove(lease)
    return active.map(({ delivery }) => delivery)
  }

  /** Ends the leases of a queue that was deleted together with its messages. */
  loseQueue(vhost: string, queue: string): void {
    for (const lease of this.#leases.values()) {
      if (lease.vhost !== vhost || lease.queue !== queue || lease.settling) continue
      this.#lost(lease)
      lease.delivery.channel.forget(lease.delivery)
    }
  }

  /** Every lease, in order of its creation. */
  all(): Lease[] {
    return [...this.#leases.values()]
  }

  /** Stops the expiry timer. */
  close(): void {
    clearInterval(this.#ticks)
  }

  #write(lease: Lease, action: SettleAction, disposition: Disposition): Promise<SettleOutcome> {
    if (!lease.delivery.channel.settle(lease.delivery, disposition)) return Promise.resolve(this.#ended(lease, action, 'unknown'))
    return lease.delivery.channel.barrier().then(
      () => this.#ended(lease, action, 'settled'),
      (error) => this.#ended(lease, action, isGone(error) ? 'gone' : 'unknown'),
    )
  }

  #ended(lease: Lease, action: SettleAction, outcome: SettleOutcome): SettleOutcome {
    this.#forget(lease)
    if (outcome !== 'settled') this.#metrics.settled(outcome === 'gone' ? 'lost' : 'unknown')
    else this.#metrics.settled(action === 'ack' ? 'acked' : 'nacked')
    this.#remember(lease, action, outcome)
    return outcome
  }

  #remember({ id }: Lease, action: SettleAction, outcome: RememberedSettle['outcome']): void {
    if (this.#remembers) this.#remembered.set(id, { action, outcome, at: now() })
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
    // Never into a slot that has passed: its turn would not come again.
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
    const time = now()
    const current = slotOf(time)
    for (let slot = this.#lastSlot + 1; slot <= current; slot++) {
      const due = this.#slots.get(slot)
      if (!due) continue
      for (const lease of [...due].sort((a, b) => a.delivery.tag - b.delivery.tag)) {
        this.#remove(lease)
        this.#metrics.settled('expired')
        this.#remember(lease, 'requeue', 'expired')
        this.#giveBack(lease, this.#onExpired(lease))
      }
    }
    this.#lastSlot = Math.max(this.#lastSlot, current)
    for (const id of this.#remembered.keys() as Iterable<string>) {
      const settle = this.#remembered.get(id)
      if (settle && time - settle.at < REMEMBER_SETTLE_MS) break
      this.#remembered.delete(id)
    }
  }

  #giveBack({ delivery }: Lease, settlement: Settlement): void {
    const settle = (disposition: Disposition) => delivery.channel.settle(delivery, disposition)
    if (isPromise(settlement)) settlement.then(settle, () => settle('requeue'))
    else settle(settlement)
  }
}

const isGone = (error: unknown): boolean => error instanceof Problem && error.code === 'lease_gone'

function slotOf(time: number): number {
  return Math.floor(time / EXPIRY_TICK_MS)
}

const isPromise = (settlement: Settlement): settlement is Promise<Disposition> => typeof settlement !== 'string'
