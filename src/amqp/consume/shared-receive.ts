// Receives of one queue that come in the same turn of the event loop share a channel and a consumer: to begin and to end one
// costs RabbitMQ, and the gateway, more than the message that it brings.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Delivery } from './delivery.js'
import type { DeliveryChannel } from './delivery-channel.js'
import type { QueueType } from './queue-types.js'
import { Interrupt, type ReceiveOptions, receive } from './receive.js'

/** So many go together at most: a channel that dies hurts no more. */
const MAX_SHARING = 32
/** Of larger bodies no more than this is dealt out in a turn: their answers take memory until they are on their way. */
const MAX_BYTES_PER_TURN = 256 * 1024

/** Where a receive goes to. */
export interface ReceiveChannel {
  channel: DeliveryChannel
  epoch: string
  brokerVersion: string
}

/** What a receive got, and where it is held. */
export interface ReceivedBatch extends Omit<ReceiveChannel, 'channel'> {
  deliveries: Delivery[]
}

interface PendingReceive {
  options: ReceiveOptions
  resolve: (taken: ReceivedBatch | Promise<ReceivedBatch>) => void
  reject: (error: unknown) => void
}

export class SharedReceive {
  readonly #take: (queue: string) => Promise<ReceiveChannel>
  readonly #type: (queue: string) => Promise<QueueType | undefined>
  readonly #gathering = new Map<string, PendingReceive[]>()
  /** How many wait for a message, by queue: where somebody does, there is none. */
  readonly #waiting = new Map<string, number>()

  /** @param take finds a channel; @param type tells what kind of queue it is, as far as is known */
  constructor(take: (queue: string) => Promise<ReceiveChannel>, type: (queue: string) => Promise<QueueType | undefined>) {
    this.#take = take
    this.#type = type
  }

  /**
   * As receive(), on a channel of its own, which holds nothing else: all of it can be given back in order.
   * @throws Problem as receive() and LeaseConnection.take()
   */
  async alone(options: ReceiveOptions): Promise<ReceivedBatch> {
    const { channel, ...place } = await this.#take(options.queue)
    const onWait = (change: 1 | -1) => this.#count(options.queue, change)
    return { deliveries: await receive(channel, { ...options, onWait }), ...place }
  }

  /** As alone(), for a receive of one message, which may come on a channel with others'. */
  one(options: ReceiveOptions): Promise<ReceivedBatch> {
    // Whoever wants to wait does so behind those who wait already, without a look at what is not there.
    if (this.#waiting.has(options.queue) && options.until > Date.now()) return this.alone(options)
    return new Promise((resolve, reject) => {
      const { queue } = options
      const member: PendingReceive = { options, resolve, reject }
      const others = this.#gathering.get(queue)
      if (others && others.length < MAX_SHARING) {
        others.push(member)
        return
      }
      const members = [member]
      this.#gathering.set(queue, members)
      // What else comes from the network in this turn comes before.
      setImmediate(() => {
        if (this.#gathering.get(queue) === members) this.#gathering.delete(queue)
        if (members.length === 1) resolve(this.alone(options))
        else void this.#together(queue, members)
      })
    })
  }

  #count(queue: string, change: 1 | -1): void {
    const count = (this.#waiting.get(queue) ?? 0) + change
    if (count > 0) this.#waiting.set(queue, count)
    else this.#waiting.delete(queue)
  }

  /** Nobody waits for the others' messages: once there are some, those for whom there were none look again. */
  async #together(queue: string, members: PendingReceive[]): Promise<void> {
    try {
      const { channel, ...place } = await this.#take(queue)
      // RabbitMQ 3 puts what is given back to a quorum queue at its tail, unless its channel closes: nobody may share one.
      if (place.brokerVersion.startsWith('3.') && (await this.#type(queue)) !== 'classic') {
        channel.received()
        for (const { options, resolve } of members) resolve(this.alone(options))
        return
      }
      const options = { queue, max: members.length, until: 0, maxBytes: Number.POSITIVE_INFINITY, interrupt: new Interrupt() }
      const deliveries = await receive(channel, options)
      const isEmpty = deliveries.length === 0
      let bytes = 0
      for (const { options, resolve } of members) {
        const delivery = deliveries.shift()
        if (delivery) {
          resolve({ deliveries: [delivery], ...place })
          bytes += delivery.body.length
          if (bytes > MAX_BYTES_PER_TURN) {
            bytes = 0
            await nextTurn()
            if (channel.closed) throw channel.failure()
          }
        } else if (!isEmpty) resolve(this.one(options))
        else if (options.until > Date.now()) resolve(this.alone(options))
        else resolve({ deliveries: [], ...place })
      }
    } catch (error) {
      for (const { reject } of members) reject(error)
    }
  }
}
