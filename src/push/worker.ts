// One subscription on this instance: receives as many messages as its window has room for, and hands them to the deliverer. It
// uses receives and leases like a client, so that a message returns to its queue whatever happens to this process.

import { ReceiveAbort } from '../amqp/consume/receive.js'
import { longestLease } from '../config/index.js'
import { waitAfter } from '../lib/backoff.js'
import { now } from '../lib/clock.js'
import { Pause } from '../lib/pause.js'
import type { Received, Receiver } from '../receive/receiver.js'
import { Deliverer, type DelivererOptions, type DeliveryStats } from './deliverer.js'
import type { Subscription } from './subscription.js'
import { DeliveryWindow } from './window.js'

export interface WorkerOptions
  extends Pick<DelivererOptions, 'vhost' | 'name' | 'config' | 'log' | 'metrics' | 'leases' | 'addresses'> {
  receiver: Receiver
  /** Pauses the subscription at all instances, unless it has changed. Never throws. */
  pause: (reason: string, revision: number) => Promise<void>
}

/** How long a receive waits for messages. */
const LONG_POLL_MS = 20_000
/** The wait of the first receive after a failure, so that a recovery shows soon. */
const SHORT_POLL_MS = 1000
/** Between receives that fail, in milliseconds. */
const RECEIVE_BACKOFF = { initial: 500, factor: 2, max: 10_000, jitter: 0.2 }
/** With many deliveries under way, those that end within this time make room for one receive together. */
const GATHER_MS = 10
/** How much longer a lease lasts than the timeout of its delivery, so that it does not expire first. */
const LEASE_MARGIN_MS = 15_000
const MIN_LEASE_MS = 30_000

/** Delivers a subscription's messages from this instance. */
export class Worker {
  readonly vhost: string
  readonly name: string
  readonly stats: DeliveryStats = { delivered: 0, failed: 0, lastSuccess: 0, lastFailure: 0 }
  readonly #options: WorkerOptions
  readonly #window: DeliveryWindow
  readonly #deliverer: Deliverer
  #subscription: Subscription
  #revision: number
  /** Why this instance paused it, until the definition changes. */
  #pausedBecause: string | undefined
  /** The waiting receive, and the most messages that it may return. */
  #poll: { abort: ReceiveAbort; max: number } | undefined
  /** How many receives in a row failed. */
  #troubles = 0
  #ended = false
  readonly #pause = new Pause()

  constructor(subscription: Subscription, revision: number, options: WorkerOptions) {
    this.#options = options
    this.vhost = options.vhost
    this.name = options.name
    this.#subscription = subscription
    this.#revision = revision
    this.#window = new DeliveryWindow(subscription.concurrency)
    this.#deliverer = new Deliverer({
      ...options,
      window: this.#window,
      stats: this.stats,
      subscription: () => this.#subscription,
      isDeleted: () => this.#ended,
      pause: (reason) => this.#pauseSubscription(reason),
      onRoom: () => this.#wake(),
    })
    void this.#run()
  }

  get inFlight(): number {
    return this.#deliverer.exchanging + this.#deliverer.accepted
  }

  get window(): number {
    return this.#window.window
  }

  get isPaused(): boolean {
    return this.#subscription.paused || this.#pausedBecause !== undefined
  }

  /** Whether nothing can currently be delivered, as far as this instance knows. */
  get isFailing(): boolean {
    return this.#troubles > 0 || (this.#window.isOpen && this.#window.restUntil !== undefined)
  }

  /** When the next attempt is due, on the monotonic clock, if that is known. */
  get nextAttempt(): number | undefined {
    const due = Math.max(this.#window.restUntil ?? 0, this.stats.nextAttempt ?? 0)
    return !this.isPaused && due > now() ? due : undefined
  }

  /** Uses a changed definition, from the next delivery on. */
  update(subscription: Subscription, revision: number): void {
    const before = this.#subscription
    this.#subscription = subscription
    this.#revision = revision
    this.#pausedBecause = undefined
    this.#window.limit = subscription.concurrency
    const isElsewhere = before.url !== subscription.url
    if (isElsewhere || (before.paused && !subscription.paused)) this.#window.reset()
    if (isElsewhere || before.concurrency !== subscription.concurrency) void this.#deliverer.replaceEndpoint()
    this.#poll?.abort.abort('superseded')
    this.#wake()
  }

  /** Receives no more. Resolves when the running deliveries have their responses, which settle them. */
  async end(): Promise<void> {
    this.#ended = true
    this.#wake()
    await this.#deliverer.replaceEndpoint()
  }

  /** Aborts the running deliveries, and leaves their messages leased. */
  async close(): Promise<void> {
    void this.end()
    await this.#deliverer.close()
  }

  async #run(): Promise<void> {
    let gathered = false
    while (!this.#ended) {
      const free = this.#free()
      if (free > 0 && !gathered && free < this.#window.window / 8) {
        gathered = true
        await new Promise((resolve) => setTimeout(resolve, GATHER_MS))
        continue
      }
      gathered = false
      if (free === 0) await this.#pause.take(this.#untilNext())
      else if (!(await this.#pull(free))) return
    }
  }

  /** How many more deliveries may run. */
  #free(): number {
    const { paused, concurrency } = this.#subscription
    if (this.#ended || paused || this.#pausedBecause !== undefined || this.#window.restUntil !== undefined) return 0
    const { exchanging, accepted } = this.#deliverer
    return Math.max(0, Math.min(this.#window.window - exchanging, concurrency - exchanging - accepted))
  }

  #untilNext(): number | undefined {
    const until = this.#window.restUntil
    return until === undefined ? undefined : until - now() + 1
  }

  /** @returns false if the gateway drains, and there will be no more receives */
  async #pull(free: number): Promise<boolean> {
    const { config, receiver } = this.#options
    const { queue, timeout } = this.#subscription
    const abort = new ReceiveAbort()
    // After a failure one message at a time: if RabbitMQ cannot deliver one of them, those before it are still delivered.
    const max = this.#troubles > 0 ? 1 : free
    this.#poll = { abort, max }
    try {
      const lease = Math.min(longestLease(config), Math.max(MIN_LEASE_MS, timeout + LEASE_MARGIN_MS))
      const wait = this.#troubles > 0 ? SHORT_POLL_MS : LONG_POLL_MS
      const request = { vhost: this.vhost, queue, ack: 'manual' as const, max, wait, lease, ignoresPolicy: true }
      const received = await receiver.receive(request, { abort }, (messages: Received) => messages)
      this.#troubles = 0
      for (const { delivery, lease } of received ?? []) void this.#deliverer.deliver(delivery, lease!)
    } catch (error) {
      if (receiver.isDraining) return false
      this.#troubles++
      this.#deliverer.note((error as Error).message)
      this.#options.log.debug({ err: error, subscription: this.name }, 'subscription cannot receive')
      await this.#pause.take(waitAfter(this.#troubles, RECEIVE_BACKOFF))
    } finally {
      this.#poll = undefined
    }
    return true
  }

  async #pauseSubscription(reason: string): Promise<void> {
    if (this.#pausedBecause !== undefined || this.#subscription.paused || this.#ended) return
    this.#pausedBecause = reason
    this.#wake()
    this.#options.log.warn({ vhost: this.vhost, subscription: this.name, reason }, 'subscription paused')
    await this.#options.pause(reason, this.#revision)
  }

  /** Ends the pause after a change, and a waiting receive that may return more messages than there is room for. */
  #wake(): void {
    if (this.#poll && this.#poll.max > this.#free()) this.#poll.abort.abort('superseded')
    this.#pause.end()
  }
}
