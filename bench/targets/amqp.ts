// amqplib in the process of the load: the most that a Node program can do with this broker.

import { type Channel, type ChannelModel, type ConfirmChannel, connect, type GetMessage } from 'amqplib'

const PUBLISH = { persistent: true, mandatory: true, contentType: 'application/json' }

/** Publishes persistent, mandatory messages on one channel with confirms. */
export class AmqpPublisher {
  readonly #model: ChannelModel
  readonly #channel: ConfirmChannel
  #returned = 0

  private constructor(model: ChannelModel, channel: ConfirmChannel) {
    this.#model = model
    this.#channel = channel
    channel.on('return', () => this.#returned++)
  }

  /** Connects and opens the channel. */
  static async open(url: string): Promise<AmqpPublisher> {
    const model = await connect(url, { noDelay: true })
    return new AmqpPublisher(model, await model.createConfirmChannel())
  }

  /** Publishes to a queue. Resolves with 1 when the broker has confirmed. @throws Error if the queue does not exist */
  publish(queue: string, body: Buffer): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#channel.publish('', queue, body, PUBLISH, (error) => {
        if (error) reject(error as Error)
        else if (this.#returned > 0) reject(new Error(`queue ${queue} does not exist`))
        else resolve(1)
      })
    })
  }

  /** Publishes `size` messages without waiting in between. Resolves with `size` when the broker has confirmed all. */
  async publishBatch(queue: string, body: Buffer, size: number): Promise<number> {
    await Promise.all(Array.from({ length: size }, () => this.publish(queue, body)))
    return size
  }

  async close(): Promise<void> {
    await this.#model.close()
  }
}

/** Gets and acknowledges one message at a time on each of a number of channels. */
export class AmqpGetter {
  readonly #model: ChannelModel
  readonly #channels: Channel[]

  private constructor(model: ChannelModel, channels: Channel[]) {
    this.#model = model
    this.#channels = channels
  }

  /** Connects and opens the channels. */
  static async open(url: string, channels: number): Promise<AmqpGetter> {
    const model = await connect(url, { noDelay: true })
    return new AmqpGetter(model, await Promise.all(Array.from({ length: channels }, () => model.createChannel())))
  }

  /** Gets a message on a channel and acknowledges it. Resolves with the number of messages, 0 or 1. */
  async get(channel: number, queue: string): Promise<number> {
    const one = this.#channels[channel]!
    const message = (await one.get(queue)) as GetMessage | false
    if (!message) return 0
    one.ack(message)
    return 1
  }

  async close(): Promise<void> {
    await this.#model.close()
  }
}

/**
 * Consumes a queue, and acknowledges the deliveries of one turn of the event loop with one frame.
 * @param onMessages gets the number of deliveries of a turn; returns true to end
 * @throws Error if the broker cancels the consumer
 */
export async function amqpConsume(
  url: string,
  queue: string,
  prefetch: number,
  onMessages: (count: number) => boolean,
): Promise<void> {
  const model = await connect(url, { noDelay: true })
  const channel = await model.createChannel()
  await channel.prefetch(prefetch)
  try {
    await new Promise<void>((resolve, reject) => {
      channel.on('error', reject)
      let delivered = 0
      const consumer = channel.consume(queue, (message) => {
        if (!message) return reject(new Error('the consumer was cancelled'))
        if (delivered++ > 0) return
        setImmediate(() => {
          const count = delivered
          delivered = 0
          channel.ackAll()
          if (onMessages(count)) resolve()
        })
      })
      consumer.catch(reject)
    })
  } finally {
    await model.close()
  }
}

/** Calls with direct reply-to on one channel, any number at a time. */
export class AmqpCaller {
  readonly #model: ChannelModel
  readonly #channel: Channel
  readonly #waiting = new Map<string, () => void>()
  #calls = 0

  private constructor(model: ChannelModel, channel: Channel) {
    this.#model = model
    this.#channel = channel
  }

  /** Connects, and consumes the replies. */
  static async open(url: string): Promise<AmqpCaller> {
    const model = await connect(url, { noDelay: true })
    const caller = new AmqpCaller(model, await model.createChannel())
    const replyTo = 'amq.rabbitmq.reply-to'
    await caller.#channel.consume(replyTo, (message) => caller.#replied(message?.properties.correlationId), { noAck: true })
    return caller
  }

  /** Publishes a call. Resolves when its reply arrives; there is no timeout. */
  call(queue: string, body: Buffer): Promise<void> {
    return new Promise((resolve) => {
      const correlationId = String(++this.#calls)
      this.#waiting.set(correlationId, resolve)
      this.#channel.publish('', queue, body, { ...PUBLISH, correlationId, replyTo: 'amq.rabbitmq.reply-to' })
    })
  }

  async close(): Promise<void> {
    await this.#model.close()
  }

  #replied(id: string): void {
    this.#waiting.get(id)?.()
    this.#waiting.delete(id)
  }
}

/** Starts a worker that replies to every call on a queue with the body of the call. */
export async function startResponder(url: string, queue: string): Promise<{ close: () => Promise<void> }> {
  const model = await connect(url, { noDelay: true })
  const channel = await model.createChannel()
  const answer = (message: import('amqplib').ConsumeMessage | null) => {
    if (!message) return
    const { replyTo, correlationId } = message.properties
    channel.publish('', replyTo, message.content, { correlationId })
  }
  await channel.consume(queue, answer, { noAck: true })
  return { close: () => model.close() }
}
