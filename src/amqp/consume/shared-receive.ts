// Receives of one message from the same queue that come in the same turn of the event loop share a channel and a consumer: to
// start and to cancel a consumer costs RabbitMQ, and the gateway, more than the message it brings.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { now } from '../../lib/clock.js'
import { receive } from './collector.js'
import type { Delivery } from './delivery.js'
import type { DeliveryChannel } from './delivery-channel.js'
import type { QueueType } from './queue-types.js'
import { giveBack, ReceiveAbort, type ReceiveOptions, requeuesAtTail } from './receive.js'

/** The most receives that share a channel, so that a channel that dies takes few leases with it. */
const MAX_SHARING = 32
/** The most bytes of bodies handed out in one turn: their responses take memory until they are written. */
const MAX_BYTES_PER_TURN = 256 * 1024

/** A channel to receive on, and its connection. */
export interface ReceiveChannel {
  channel: DeliveryChannel
  /** Names the incarnation of the connection. */
  epoch: string
  brokerVersion: string
}

/** The result of a receive, and which connection holds it. */
export interface ReceivedBatch extends Omit<ReceiveChannel, 'channel'> {
  deliveries: Delivery[]
  /** Whether a limit of the gateway ended the receive, although more messages were ready. */
  more: boolean
}

interface PendingReceive {
  options: ReceiveOptions
  resolve: (batch: ReceivedBatch | Promise<ReceivedBatch>) => void
  reject: (error: unknown) => void
}

/** The receives of one vhost. */
export class SharedReceive {
  readonly #take: (queue: string) => Promise<ReceiveChannel>
  readonly #type: (queue: string) => Promise<QueueType | undefined>
  readonly #isSeparate: (queue: string) => boolean
  /** Receives of this turn, by queue. */
  readonly #gathering = new Map<string, PendingReceive[]>()
  /** How many receives wait for a message, by queue: a queue with waiting receives is empty. */
  readonly #waiting = new Map<string, number>()

  /**
   * @param take finds a channel for a receive
   * @param type the type of a queue, if it is known
   * @param isSeparate whether no two receives of a queue may share a channel, so that a message that ends a connection harms one
   */
  constructor(
    take: (queue: string) => Promise<ReceiveChannel>,
    type: (queue: string) => Promise<QueueType | undefined>,
    isSeparate: (queue: string) => boolean,
  ) {
    this.#take = take
    this.#type = type
    this.#isSeparate = isSeparate
  }

  /**
   * Receives on a channel of its own, so that everything it holds can be given back in order. Resolves as soon as there is a
   * message, or with none at the end of the wait.
   * @throws Problem queue_not_found, stream_queue, resource_locked, access_refused, broker_unavailable, broker_timeout,
   *   too_many_waiters, too_many_leases
   */
  async receiveAlone(options: ReceiveOptions): Promise<ReceivedBatch> {
    const type = await this.#type(options.queue)
    const onWait = (change: 1 | -1) => this.#count(options.queue, change)
    for (let { max } = options; ; ) {
      const { channel, ...connection } = await this.#take(options.queue)
      const { deliveries, fitting, more } = await receive(channel, { ...options, max, onWait }, { type, ...connection })
      if (fitting === deliveries.length) return { deliveries, more: more || max < options.max, ...connection }
      if (type === 'classic') {
        for (const delivery of deliveries.splice(fitting)) channel.settle(delivery, 'requeue')
        return { deliveries, more: true, ...connection }
      }
      // Only messages that go back all together keep their order. Those that fit are received again.
      await giveBack(deliveries, connection.brokerVersion)
      max = fitting
    }
  }

  /**
   * Receives one message, perhaps on a channel that others share.
   * @throws Problem the same codes as `receiveAlone()`
   */
  receiveOne(options: ReceiveOptions): Promise<ReceivedBatch> {
    // The queue is empty if others wait for it already. A receive that may wait goes behind them, without a look at the queue.
    const isBehind = this.#waiting.has(options.queue) && options.until > now()
    if (isBehind || this.#isSeparate(options.queue)) return this.receiveAlone(options)
    return new Promise((resolve, reject) => {
      const { queue } = options
      const pending: PendingReceive = { options, resolve, reject }
      const others = this.#gathering.get(queue)
      if (others && others.length < MAX_SHARING) {
        others.push(pending)
        return
      }
      const group = [pending]
      this.#gathering.set(queue, group)
      // setImmediate runs after the requests that the network brings in this turn.
      setImmediate(() => {
        if (this.#gathering.get(queue) === group) this.#gathering.delete(queue)
        if (group.length === 1) resolve(this.receiveAlone(options))
        else void this.#receiveTogether(queue, group)
      })
    })
  }

  #count(queue: string, change: 1 | -1): void {
    const count = (this.#waiting.get(queue) ?? 0) + change
    if (count > 0) this.#waiting.set(queue, count)
    else this.#waiting.delete(queue)
  }

  /** Takes what is ready and hands it out. Receives that got nothing, although others did, try again on their own. */
  async #receiveTogether(queue: string, group: PendingReceive[]): Promise<void> {
    try {
      const type = await this.#type(queue)
      const { channel, ...connection } = await this.#take(queue)
      // Such a queue keeps the order of what is given back only if the channel closes, so nobody may share it.
      if (requeuesAtTail(connection.brokerVersion) && type !== 'classic') {
        channel.received()
        for (const { options, resolve } of group) resolve(this.receiveAlone(options))
        return
      }
      const options = { queue, max: group.length, until: 0, maxBytes: Number.POSITIVE_INFINITY, abort: new ReceiveAbort() }
      const { deliveries } = await receive(channel, options, { type, ...connection })
      const isEmpty = deliveries.length === 0
      let bytes = 0
      for (const { options, resolve } of group) {
        const delivery = deliveries.shift()
        if (delivery) {
          resolve({ deliveries: [delivery], more: false, ...connection })
          bytes += delivery.body.length
          if (bytes > MAX_BYTES_PER_TURN) {
            bytes = 0
            await nextTurn()
            if (channel.closed) throw channel.failure()
          }
        } else if (!isEmpty) resolve(this.receiveOne(options))
        else if (options.until > now()) resolve(this.receiveAlone(options))
        else resolve({ deliveries: [], more: false, ...connection })
      }
    } catch (error) {
      for (const { reject } of group) reject(error)
    }
  }
}
