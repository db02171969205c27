// Queues for the runs, on a connection of their own.

import { type Channel, type ChannelModel, connect } from 'amqplib'
import { AmqpPublisher } from './amqp.js'

export type QueueType = 'classic' | 'quorum'

/** Messages in flight at once while a queue is filled. */
const FILL_AT_ONCE = 2000

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

  static async open(url: string): Promise<Queues> {
    const model = await connect(url)
    return new Queues(model, await model.createChannel(), await AmqpPublisher.open(url))
  }

  /** A name that no other queue of the run has. */
  name(): string {
    return `bench.${++this.#names}`
  }

  /** An empty durable queue of that name, whatever was there before. */
  async renew(name: string, type: QueueType = 'classic'): Promise<void> {
    await this.#channel.deleteQueue(name)
    await this.#channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': type } })
  }

  /** Persistent and confirmed, like everything else. */
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
