// Receiving, from the request until the response has reached the client, or is known not to.

import type { Delivery } from '../amqp/consume/delivery.js'
import { giveBack, type ReceiveAbort } from '../amqp/consume/receive.js'
import type { Vhost } from '../amqp/vhost.js'
import type { Vhosts } from '../amqp/vhosts.js'
import type { Login } from '../amqp/wire/connection.js'
import type { Config } from '../config/index.js'
import type { Leases } from '../leases/leases.js'
import type { Lease } from '../leases/table.js'
import { now } from '../lib/clock.js'
import type { AckMode, Metrics } from '../metrics.js'
import { Problem } from '../problems.js'

export interface ReceiveRequest {
  /** The connection's own vhost if undefined. */
  vhost: string | undefined
  /** The RabbitMQ user to receive as; the gateway's own user if absent. */
  login?: Login | undefined
  queue: string
  ack: AckMode
  /** 1 to 1000. */
  max: number
  /** Milliseconds to wait for the first message. */
  wait: number
  /** Milliseconds that each lease lasts, with `ack: 'manual'`. */
  lease: number
  /** Whether the retry policy of the queue leaves the leases alone. */
  ignoresPolicy?: boolean
}

/** The messages of a receive, each with its lease if it has one. */
export type Received = { delivery: Delivery; lease: Lease | undefined }[]

/** The client that waits for the messages. */
export interface ReceiveClient {
  /** Fired when the messages are no longer wanted, or the gateway drains. */
  abort: ReceiveAbort
  /**
   * Calls back once: with true when the response has been written out, with false if the client went away before. Absent for a
   * part of the gateway, which has the messages as soon as `form` returns; such a receive counts for no limit on waiting
   * receives, and in no metric of receives.
   */
  onEnd?: (listener: (written: boolean) => void) => void
}

/** Runs the receives of this instance. */
export class Receiver {
  readonly #config: Config
  readonly #metrics: Metrics
  readonly #vhosts: Vhosts
  readonly #leases: Leases
  readonly #running = new Set<ReceiveAbort>()
  #waiting = 0
  #draining = false

  constructor(options: { config: Config; metrics: Metrics; vhosts: Vhosts; leases: Leases }) {
    this.#config = options.config
    this.#metrics = options.metrics
    this.#vhosts = options.vhosts
    this.#leases = options.leases
  }

  /** Whether no new receives are started, since the gateway shuts down. */
  get isDraining(): boolean {
    return this.#draining
  }

  /** How many receives of clients wait, or may wait, for a message. */
  get waiting(): number {
    return this.#waiting
  }

  /**
   * Takes messages and forms the response. Messages that do not reach the client go back to the queue, in order: if `form`
   * throws, if the client goes away while it waits, or if it goes away before the response is written out.
   * @param form its `more` is whether a limit ended the receive, although more messages were ready
   * @returns what `form` returned; undefined if the messages are no longer wanted
   * @throws Problem too_many_leases, too_many_waiters, shutting_down, queue_not_found, stream_queue, resource_locked,
   *   access_refused, vhost_not_found, broker_unavailable, broker_timeout, and what `form` throws
   */
  async receive<T>(
    request: ReceiveRequest,
    client: ReceiveClient,
    form: (received: Received, more: boolean) => T,
  ): Promise<T | undefined> {
    if (this.#draining) throw new Problem('shutting_down', 'The gateway is shutting down and starts no receives.')
    if (request.ack === 'manual') this.#leases.requireRoom(request.max)
    const waits = request.wait > 0 && client.onEnd !== undefined
    if (waits && this.#waiting >= this.#config.MAX_WAITERS) {
      throw new Problem(
        'too_many_waiters',
        `The most receives that may wait are waiting (MAX_WAITERS ${this.#config.MAX_WAITERS}).`,
      )
    }
    if (waits) this.#waiting++
    this.#running.add(client.abort)
    try {
      const vhost = await this.#vhosts.get(request.vhost, request.login)
      return await this.#take(vhost, request, client, form)
    } finally {
      this.#running.delete(client.abort)
      if (waits) this.#waiting--
    }
  }

  /** Starts no more receives. Those that wait return what they have. */
  drain(): void {
    this.#draining = true
    for (const abort of this.#running) abort.abort('draining')
  }

  async #take<T>(
    vhost: Vhost,
    request: ReceiveRequest,
    { abort, onEnd }: ReceiveClient,
    form: (received: Received, more: boolean) => T,
  ): Promise<T | undefined> {
    const { queue, ack, max, wait } = request
    const receivedAt = now()
    const options = { queue, max, until: receivedAt + wait, maxBytes: this.#config.MAX_RESPONSE_SIZE, abort }
    // ack=requeue gives its messages back in order, so it has a channel of its own.
    const isShared = max === 1 && ack !== 'requeue'
    const { sharedReceive } = vhost
    const batch = await (isShared ? sharedReceive.receiveOne(options) : sharedReceive.receiveAlone(options))
    const { deliveries, more, epoch, brokerVersion } = batch
    if (deliveries.length > 0) await countFirst(vhost, queue, deliveries)
    if (abort.isUnwanted) {
      await giveBack(deliveries, brokerVersion)
      return undefined
    }
    // Receives that ran at the same time may have used up the room.
    const full = ack === 'manual' ? this.#leases.roomProblem(deliveries.length) : undefined
    if (full) {
      await giveBack(deliveries, brokerVersion)
      throw full
    }
    const { lease: duration, ignoresPolicy = false } = request
    const leased = { vhost, queue, epoch, deliveries, duration, receivedAt, ignoresPolicy }
    const leases = ack === 'manual' ? this.#leases.create(leased) : []
    const back = () => (ack === 'manual' ? this.#leases.release(leases, brokerVersion) : giveBack(deliveries, brokerVersion))
    let response: T
    try {
      response = form(
        deliveries.map((delivery, index) => ({ delivery, lease: leases[index] })),
        more,
      )
    } catch (error) {
      await back()
      throw error
    }
    if (ack === 'requeue') await giveBack(deliveries, brokerVersion)
    else onEnd?.((written) => this.#ended(ack, deliveries, written, back))
    if (onEnd) this.#metrics.received(ack, deliveries.length)
    return response
  }

  #ended(ack: AckMode, deliveries: Delivery[], written: boolean, back: () => Promise<void>): void {
    if (!written) void back()
    else if (ack === 'auto') for (const delivery of deliveries) delivery.channel.settle(delivery, 'ack')
  }
}

/** A quorum queue writes its count from the second delivery on. A first delivery has none, so the queue's type tells. */
async function countFirst(vhost: Vhost, queue: string, deliveries: Delivery[]): Promise<void> {
  const first = deliveries.filter((delivery) => delivery.deliveryCount === undefined && !delivery.redelivered)
  if (first.length === 0 || (await vhost.topology.queueTypes.recentType(queue)) !== 'quorum') return
  for (const delivery of first) delivery.deliveryCount = 1
}
