// The queues of the runs.

import { type Channel, type ChannelModel, connect } from 'amqplib'
import { AmqpPublisher } from './amqp.js'

export type QueueType = 'classic' | 'quorum'

/** The maximum number of unconfirmed messages while a queue is filled. */
const FILL_AT_ONCE = 2000

/** Declares, fills and deletes queues, on connections of its own. */
export class Queues {
  readonly #model: ChannelModel
  readonly #channel: Channel
  readonly #publisher: AmqpPublisher
  #names = 0

  private constructor(model: ChannelModel, channel: Channel, publisher: AmqpPublisher) {
    this.#model = model
    this.#channel = channel
    this.#publisher = publisher
  }

  /** Connects to the broker. */
  static async open(url: string): Promise<Queues> {
    const model = await connect(url)
    return new Queues(model, await model.createChannel(), await AmqpPublisher.open(url))
  }

  /** A queue name that is unique in this benchmark. */
  nextName(): string {
    return `bench.${++this.#names}`
  }

  /** Deletes the queue if it exists and declares it as an empty durable one. */
  async recreate(name: string, type: QueueType = 'classic'): Promise<void> {
    await this.#channel.deleteQueue(name)
    await this.#channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': type } })
  }

  /** Publishes `messages` persistent messages, and resolves when all are confirmed. */
  async fill(name: string, messages: number, body: Buffer): Promise<void> {
    for (let rest = messages; rest > 0; rest -= FILL_AT_ONCE) {
      await this.#publisher.publishBatch(name, body, Math.min(rest, FILL_AT_ONCE))
    }
  }

  async delete(name: string): Promise<void> {
    await this.#channel.deleteQueue(name)
  }

  async close(): Promise<void> {
    await this.#publisher.close()
    await this.#model.close()
  }
}
