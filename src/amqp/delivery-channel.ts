// A channel that receives and holds what is not settled yet. It is the one place that sends delivery tags: only tags it
// holds, each once, since an unknown tag makes the broker close the channel and requeue everything on it.

import type { Log } from '../log.js'
import { Problem } from '../problems.js'
import type { Channel, ChannelModel, ConsumeMessage } from './amqplib.js'
import { settled, within } from './deadline.js'
import type { FieldValue } from './field-table.js'
import type { IncomingMessage, Properties } from './message.js'
import { problemOf } from './reply-codes.js'

/** What the broker is told of a delivery: done, back to its queue, or away to the dead-letter exchange. */
export type Verdict = 'ack' | 'requeue' | 'reject'

/** Of a message that is a copy of one that was given back: how often that was delivered, */
export const DELIVERIES_HEADER = 'x-gateway-delivery-count'
/** how often in vain to a subscription's endpoint, */
export const ATTEMPTS_HEADER = 'x-gateway-attempts'
/** and from which queue. In another one, as among the dead letters, both begin anew. */
export const QUEUE_HEADER = 'x-gateway-queue'

const NOTHING = Buffer.alloc(0)

/** One message, delivered and not settled. */
export class Delivery implements IncomingMessage {
  readonly channel: DeliveryChannel
  readonly tag: number
  readonly exchange: string
  readonly routingKey: string
  readonly redelivered: boolean
  properties: Properties
  body: Buffer
  /** 1 at the first delivery; undefined where nobody counts. */
  deliveryCount: number | undefined
  /** How often it was tried in vain before to be delivered to a subscription's endpoint. */
  attempts = 0
  /** Called once if the channel closes first: the broker has requeued the message, or will. */
  onLost: (() => void) | undefined

  constructor(channel: DeliveryChannel, message: ConsumeMessage) {
    const { fields, properties, content } = message
    this.channel = channel
    this.tag = fields.deliveryTag
    this.exchange = fields.exchange
    this.routingKey = fields.routingKey
    this.redelivered = fields.redelivered
    this.properties = properties as Properties
    this.body = content
    // Deliveries before this one: RabbitMQ 4.3 counts all of them in x-acquired-count, and only failed ones in x-delivery-count.
    const { headers } = this.properties
    // At the first delivery neither is this queue's: a dead letter has what another queue counted.
    const earlier = this.redelivered ? (headers?.['x-acquired-count'] ?? headers?.['x-delivery-count']) : undefined
    // A copy comes to its queue by the default exchange, and nowhere else with that queue's name.
    const isCopy = headers !== undefined && this.exchange === '' && headers[QUEUE_HEADER] === this.routingKey
    const before = isCopy ? headers[DELIVERIES_HEADER] : undefined
    const attempts = isCopy ? headers[ATTEMPTS_HEADER] : undefined
    if (typeof attempts === 'number' && attempts > 0) this.attempts = attempts
    if (typeof earlier === 'number') this.deliveryCount = earlier + 1
    else if (typeof before === 'number') this.deliveryCount = this.redelivered ? 2 : 1
    if (typeof before === 'number') this.deliveryCount! += before
  }

  /** Lets its content go, where it is only to be held and given back. */
  empty(): void {
    this.properties = {}
    this.body = NOTHING
  }
}

export interface ChannelHooks {
  log: Log
  /** BROKER_TIMEOUT, in milliseconds. */
  timeout: number
  /** Holds nothing, receives nothing, waits for nothing: may be used for the next receive. */
  onIdle: (channel: DeliveryChannel) => void
  onClosed: (channel: DeliveryChannel) => void
}

export class DeliveryChannel {
  closed = false
  /** Called once, when the channel closes while a receive waits on it. */
  onClosed: (() => void) | undefined
  readonly #channel: Channel
  readonly #hooks: ChannelHooks
  readonly #held = new Map<number, Delivery>()
  #failure: Error | undefined
  #prefetch = 0
  #receiving = false
  #closing = false
  /** Barriers and cancels that wait for their answers. */
  #calls = 0
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  private constructor(channel: Channel, hooks: ChannelHooks) {
    this.#channel = channel
    this.#hooks = hooks
    channel.on('error', (error: Error) => {
      this.#failure = error
    })
    channel.on('handler-error' as 'error', (error: Error) => hooks.log.error({ err: error }, 'a delivery callback failed'))
    channel.on('close', () => this.#lose())
  }

  static async open(model: ChannelModel, hooks: ChannelHooks): Promise<DeliveryChannel> {
    return new DeliveryChannel(await within(hooks.timeout, 'channel.open', model.createChannel()), hooks)
  }

  /** How many deliveries are not settled. */
  get held(): number {
    return this.#held.size
  }

  /** What is not settled, in the order of its delivery. */
  unsettled(): Delivery[] {
    return [...this.#held.values()]
  }

  /** Why the channel is closed, as a problem. */
  failure(): Problem {
    return this.#failure ? problemOf(this.#failure) : new Problem('broker_unavailable', 'The connection to RabbitMQ was lost.')
  }

  /**
   * Starts a consumer that gets `prefetch` unsettled deliveries at most.
   * @param offset where to begin in a RabbitMQ stream; undefined for every other queue, and then a stream is refused
   * @param onDelivery called with each; with null when the broker ends the consumer (its queue was deleted)
   */
  async consume(
    queue: string,
    { tag, prefetch, offset }: { tag: string; prefetch: number; offset?: FieldValue | undefined },
    onDelivery: (delivery: Delivery | null) => void,
  ): Promise<void> {
    this.#receiving = true
    if (this.#prefetch !== prefetch) {
      this.#prefetch = prefetch
      await within(this.#hooks.timeout, 'basic.qos', this.#channel.prefetch(prefetch))
    }
    const consumer = (message: ConsumeMessage | null): void => {
      const delivery = message && new Delivery(this, message)
      if (delivery) this.#held.set(delivery.tag, delivery)
      onDelivery(delivery)
    }
    // A stream refuses the argument, with an error of this channel alone; to every other queue 0 is what it would be anyway.
    const args = offset === undefined ? { 'x-priority': 0 } : { 'x-stream-offset': offset }
    const options = { consumerTag: tag, arguments: args }
    await within(this.#hooks.timeout, 'basic.consume', this.#channel.consume(queue, consumer, options))
  }

  /** Ends the consumer. Nothing is delivered to it once this has resolved; what is written meanwhile comes after it. */
  async cancel(tag: string): Promise<void> {
    this.#calls++
    try {
      await within(this.#hooks.timeout, 'basic.cancel', this.#channel.cancel(tag))
    } finally {
      this.#calls--
      this.#restIfIdle()
    }
  }

  /** How many messages the queue has for consumers. */
  async ready(queue: string): Promise<number> {
    return (await within(this.#hooks.timeout, 'queue.declare', this.#channel.checkQueue(queue))).messageCount
  }

  /** The receive is over: from here on the channel only holds what it delivered. */
  received(): void {
    this.#receiving = false
    this.onClosed = undefined
    this.#restIfIdle()
  }

  /** Tells the broker the verdict. It is written, not yet taken: see barrier(). False where the delivery is held no more. */
  settle(delivery: Delivery, verdict: Verdict): boolean {
    if (this.closed || !this.#held.delete(delivery.tag)) return false
    const message = { fields: { deliveryTag: delivery.tag } } as ConsumeMessage
    try {
      if (verdict === 'ack') this.#channel.ack(message)
      else this.#channel.nack(message, false, verdict === 'requeue')
    } catch {
      return false // the channel is closing: its 'close' event follows
    }
    // Later, so that a barrier for this verdict comes first: nobody else's receive may stand between the two.
    if (this.#held.size === 0) setImmediate(() => this.#restIfIdle())
    return true
  }

  /** Acknowledges everything held up to and with this delivery, in one frame. */
  ackUpTo(last: Delivery): void {
    if (this.closed || !this.#held.has(last.tag)) return
    for (const tag of this.#held.keys()) if (tag <= last.tag) this.#held.delete(tag)
    this.#tellOfAll((channel) => channel.ack({ fields: { deliveryTag: last.tag } } as ConsumeMessage, true))
  }

  /** Gives everything held back to its queue, in one frame. */
  requeueAll(): void {
    if (this.closed || this.#held.size === 0) return
    let last = 0
    for (const tag of this.#held.keys()) last = Math.max(last, tag)
    this.#held.clear()
    this.#tellOfAll((channel) => channel.nack({ fields: { deliveryTag: last } } as ConsumeMessage, true, true))
  }

  #tellOfAll(tell: (channel: Channel) => void): void {
    try {
      tell(this.#channel)
    } catch {
      return // the channel is closing: its 'close' event follows
    }
    if (this.#held.size === 0) setImmediate(() => this.#restIfIdle())
  }

  /** Stops holding a delivery whose queue is known to be deleted, without a word to the broker. */
  forget(delivery: Delivery): void {
    this.#held.delete(delivery.tag)
    this.#restIfIdle()
  }

  /**
   * Resolves once the broker has taken every verdict written so far: a round trip (basic.qos) on this very channel, shared
   * by all who wait at the same time.
   * @throws where the channel closed, or did not answer in time and was given up: the verdicts' fate is not known.
   */
  async barrier(): Promise<void> {
    this.#calls++
    try {
      this.#next ??= this.#running ? this.#running.then(() => this.#round()) : undefined
      await (this.#next ?? this.#round())
    } finally {
      this.#calls--
      this.#restIfIdle()
    }
  }

  #round(): Promise<void> {
    this.#next = undefined
    const round = within(this.#hooks.timeout, 'basic.qos', this.#channel.prefetch(Math.max(1, this.#prefetch))).then(
      () => {
        if (this.#running === round) this.#running = undefined
      },
      (error) => {
        void this.close()
        throw error
      },
    )
    this.#prefetch = Math.max(1, this.#prefetch)
    this.#running = round
    return round
  }

  /** Closes the channel; everything held goes back to its queue, in its old order. Resolves when the broker has said so. */
  async close(): Promise<void> {
    if (this.closed || this.#closing) return
    this.#closing = true
    try {
      await settled(this.#hooks.timeout, this.#channel.close())
    } catch {
      // it is closing already
    }
    this.#lose()
  }

  #restIfIdle(): void {
    const busy = this.#held.size > 0 || this.#receiving || this.#calls > 0
    if (!busy && !this.closed && !this.#closing) this.#hooks.onIdle(this)
  }

  #lose(): void {
    if (this.closed) return
    this.closed = true
    const held = [...this.#held.values()]
    this.#held.clear()
    for (const delivery of held) delivery.onLost?.()
    this.onClosed?.()
    this.#hooks.onClosed(this)
  }
}
