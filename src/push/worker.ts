// One subscription on this instance: takes as many messages as may be under way, and sees each through to what its answer
// says. It is a client of leases and receives like any other, so that a message that it holds is a lease like any other, and
// whatever happens to this process gives it back to the queue.

import { Interrupt } from '../amqp/consume/receive.js'
import { waitAfter } from '../lib/backoff.js'
import { longestLease } from '../config/index.js'
import type { Received, Receiver } from '../receive/receiver.js'
import { Rest } from '../lib/pause.js'
import type { Subscription } from './subscription.js'
import { Deliverer, type DelivererOptions, type Told } from './deliverer.js'
import { Flow } from './window.js'

export interface WorkerOptions
  extends Pick<DelivererOptions, 'vhost' | 'name' | 'config' | 'log' | 'metrics' | 'leases' | 'addresses'> {
  receiver: Receiver
  /** Pauses the subscription at all instances, if it is still what it was. Never throws. */
  pause: (reason: string, revision: number) => Promise<void>
}

/** How long one look for messages waits. */
const LONG_WAIT = 20_000
/** The first after some trouble, so that it is soon known to be over. */
const SHORT_WAIT = 1000
/** Between looks for a queue or a broker that is not there. */
const TROUBLE = { initial: 500, factor: 2, max: 10_000, jitter: 0.2 }
/** With many under way, those that end within so many milliseconds make room for one receive, not for one each. */
const GATHER = 10
/** What a lease lasts beyond the timeout of its delivery, so that it doesn't end first. */
const MARGIN = 15_000
const SHORTEST_LEASE = 30_000

export class Worker {
  readonly vhost: string
  readonly name: string
  readonly told: Told = { delivered: 0, failed: 0, lastSuccess: 0, lastFailure: 0 }
  readonly #options: WorkerOptions
  readonly #flow: Flow
  readonly #deliverer: Deliverer
  #subscription: Subscription
  #revision: number
  /** Why it paused itself, until its definition says so too, or another one. */
  #halted: string | undefined
  /** The receive that waits, and how many messages it may come back with. */
  #poll: { interrupt: Interrupt; max: number } | undefined
  /** In a row: receives that failed. */
  #troubles = 0
  #ended = false
  readonly #rest = new Rest()

  constructor(subscription: Subscription, revision: number, options: WorkerOptions) {
    this.#options = options
    this.vhost = options.vhost
    this.name = options.name
    this.#subscription = subscription
    this.#revision = revision
    this.#flow = new Flow(subscription.concurrency)
    this.#deliverer = new Deliverer({
      ...options,
      flow: this.#flow,
      told: this.told,
      subscription: () => this.#subscription,
      isDeleted: () => this.#ended,
      halt: (reason) => this.#halt(reason),
      onRoom: () => this.#wake(),
    })
    void this.#run()
  }

  get inFlight(): number {
    return this.#deliverer.exchanging + this.#deliverer.accepted
  }

  get window(): number {
    return this.#flow.window
  }

  get isPaused(): boolean {
    return this.#subscription.paused || this.#halted !== undefined
  }

  /** Whether nothing can be delivered just now, as far as this instance knows. */
  get isFailing(): boolean {
    return this.#troubles > 0 || (this.#flow.isOpen && this.#flow.restUntil !== undefined)
  }

  /** When the next attempt is due, in milliseconds since 1970, where that is known. */
  get nextAttempt(): number | undefined {
    const due = Math.max(this.#flow.restUntil ?? 0, this.told.nextAttempt ?? 0)
    return !this.isPaused && due > Date.now() ? due : undefined
  }

  /** From the next delivery on it is this. */
  update(subscription: Subscription, revision: number): void {
    const before = this.#subscription
    this.#subscription = subscription
    this.#revision = revision
    this.#halted = undefined
    this.#flow.limit = subscription.concurrency
    const isElsewhere = before.url !== subscription.url
    if (isElsewhere || (before.paused && !subscription.paused)) this.#flow.reset()
    if (isElsewhere || before.concurrency !== subscription.concurrency) void this.#deliverer.moved()
    this.#poll?.interrupt.fire('client_gone')
    this.#wake()
  }

  /** Takes no more. What is under way is settled by its answer; resolves when that has come. */
  async end(): Promise<void> {
    this.#ended = true
    this.#wake()
    await this.#deliverer.moved()
  }

  /** Ends what is under way, without a word on its messages. */
  async close(): Promise<void> {
    void this.end()
    await this.#deliverer.close()
  }

  async #run(): Promise<void> {
    let gathered = false
    while (!this.#ended) {
      const free = this.#free()
      if (free > 0 && !gathered && free < this.#flow.window / 8) {
        gathered = true
        await new Promise((resolve) => setTimeout(resolve, GATHER))
        continue
      }
      gathered = false
      if (free === 0) await this.#rest.take(this.#untilNext())
      else if (!(await this.#pull(free))) return
    }
  }

  /** How many more may be under way. */
  #free(): number {
    const { paused, concurrency } = this.#subscription
    if (this.#ended || paused || this.#halted !== undefined || this.#flow.restUntil !== undefined) return 0
    const { exchanging, accepted } = this.#deliverer
    return Math.max(0, Math.min(this.#flow.window - exchanging, concurrency - exchanging - accepted))
  }

  #untilNext(): number | undefined {
    const until = this.#flow.restUntil
    return until === undefined ? undefined : until - Date.now() + 1
  }

  /** @returns false where there will be no more */
  async #pull(free: number): Promise<boolean> {
    const { config, receiver } = this.#options
    const { queue, timeout } = this.#subscription
    const interrupt = new Interrupt()
    this.#poll = { interrupt, max: free }
    try {
      const lease = Math.min(longestLease(config), Math.max(SHORTEST_LEASE, timeout + MARGIN))
      const wait = this.#troubles > 0 ? SHORT_WAIT : LONG_WAIT
      const request = { vhost: this.vhost, queue, ack: 'manual' as const, max: free, wait, lease }
      const client = { interrupt, internal: true, onEnd: (listener: (written: boolean) => void) => listener(true) }
      const received = await receiver.receive(request, client, (messages: Received) => messages)
      this.#troubles = 0
      for (const { delivery, lease } of received ?? []) void this.#deliverer.deliver(delivery, lease!)
    } catch (error) {
      if (receiver.isDraining) return false
      this.#troubles++
      this.#deliverer.note((error as Error).message)
      this.#options.log.debug({ err: error, subscription: this.name }, 'a subscription can not receive just now')
      await this.#rest.take(waitAfter(this.#troubles, TROUBLE))
    } finally {
      this.#poll = undefined
    }
    return true
  }

  async #halt(reason: string): Promise<void> {
    if (this.#halted !== undefined || this.#subscription.paused || this.#ended) return
    this.#halted = reason
    this.#wake()
    this.#options.log.warn({ vhost: this.vhost, subscription: this.name, reason }, 'a subscription is paused')
    await this.#options.pause(reason, this.#revision)
  }

  /** Something is different: ends the rest, or the next one where none is under way, and a receive that may get too much. */
  #wake(): void {
    if (this.#poll && this.#poll.max > this.#free()) this.#poll.interrupt.fire('client_gone')
    this.#rest.end()
  }
}
