// A long-lived consumer: takes a channel, delivers until it is stopped or RabbitMQ ends it, and gives back what is unsettled.

import { Problem } from '../../problems.js'
import { brokerProblem } from '../wire/errors.js'
import type { FieldValue } from '../wire/field-table.js'
import type { Delivery } from './delivery.js'
import type { DeliveryChannel } from './delivery-channel.js'
import { giveBack } from './receive.js'
import type { ReceiveChannel } from './shared-receive.js'

export interface ConsumerOptions {
  queue: string
  /** Unique on its channel, and the consumer's name in RabbitMQ's management UI. */
  tag: string
  /** The most unsettled deliveries at a time. */
  prefetch: number
  /** Where to begin in a RabbitMQ stream. Without it a stream is refused. */
  offset?: FieldValue | undefined
  onDelivery: (delivery: Delivery) => void
  /**
   * Called once if RabbitMQ ends the consumer (the queue was deleted, or its node went away) or closes the channel. Not called
   * after `stop()` or `close()`.
   */
  onEnd: (reason: Problem) => void
}

/** One queue's consumer on a channel of its own. */
export class Consumer {
  readonly channel: DeliveryChannel
  /** Names the incarnation of the connection; leases of its deliveries carry it. */
  readonly epoch: string
  readonly #brokerVersion: string
  readonly #options: ConsumerOptions
  #tag: string
  #ended = false

  private constructor({ channel, epoch, brokerVersion }: ReceiveChannel, options: ConsumerOptions) {
    this.channel = channel
    this.epoch = epoch
    this.#brokerVersion = brokerVersion
    this.#options = options
    this.#tag = options.tag
    channel.onClosed = () => this.#end(channel.failure())
  }

  /**
   * Starts to consume on a channel. Resolves once RabbitMQ has accepted the consumer.
   * @throws Problem queue_not_found, stream_queue, resource_locked, access_refused, broker_unavailable, broker_timeout; the
   *   channel is closed then
   */
  static async start(place: ReceiveChannel, options: ConsumerOptions): Promise<Consumer> {
    const consumer = new Consumer(place, options)
    try {
      await consumer.#consume(options.prefetch)
      return consumer
    } catch (error) {
      const { channel } = place
      const problem = channel.closed ? channel.failure() : brokerProblem(error)
      await consumer.close()
      throw problem
    }
  }

  /** Whether the consumer was stopped or closed, or ended by RabbitMQ. */
  get ended(): boolean {
    return this.#ended
  }

  /**
   * Replaces the consumer by one with another prefetch, which counts from zero: earlier deliveries stay held and do not count.
   * @param tag for the new consumer
   * @param prefetch for the new consumer; asked once the old one delivers nothing more
   * @throws what basic.cancel and basic.consume fail with
   */
  async restart(tag: string, prefetch: () => number): Promise<void> {
    await this.channel.cancel(this.#tag)
    this.#tag = tag
    await this.#consume(prefetch())
  }

  /** Ends the deliveries, and keeps what is unsettled. Never throws: if RabbitMQ does not answer, the channel is closed. */
  async cancel(): Promise<void> {
    this.#ended = true
    this.channel.onClosed = undefined
    if (!this.channel.closed) await this.channel.cancel(this.#tag).catch(() => this.channel.close())
  }

  /**
   * Gives deliveries back in order of delivery and leaves the channel to other receives.
   * @param held the deliveries to give back; those whose leases go on are left out
   */
  async release(held: Delivery[] = this.channel.unsettled()): Promise<void> {
    await giveBack(held, this.#brokerVersion)
    this.channel.received()
  }

  /** Ends the consumer and closes its channel, which gives everything unsettled back at once. */
  async close(): Promise<void> {
    this.#ended = true
    this.channel.onClosed = undefined
    await this.channel.close()
    this.channel.received()
  }

  async #consume(prefetch: number): Promise<void> {
    const { queue, offset, onDelivery } = this.#options
    await this.channel.consume(queue, { tag: this.#tag, prefetch, offset }, (delivery) => {
      if (delivery) onDelivery(delivery)
      else this.#end(new Problem('queue_not_found', `The queue '${queue}' was deleted, or its node went away.`))
    })
  }

  #end(reason: Problem): void {
    if (this.#ended) return
    this.#ended = true
    this.#options.onEnd(reason)
  }
}
