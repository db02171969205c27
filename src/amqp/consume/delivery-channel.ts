// A channel that receives and holds what is not settled yet. It is the one place that sends delivery tags: only tags it
// holds, each once, since an unknown tag makes the broker close the channel and requeue everything on it.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import type { Channel, ChannelModel, ConsumeMessage } from '../wire/amqplib.js'
import { waitQuietly, within } from '../wire/deadline.js'
import { brokerProblem } from '../wire/errors.js'
import type { FieldValue } from '../wire/field-table.js'
import { Delivery, type Disposition } from './delivery.js'

export interface DeliveryChannelHooks {
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
  readonly #hooks: DeliveryChannelHooks
  /** By their tags, which grow from one to the next. */
  readonly #held = new Map<number, Delivery>()
  /** Tags of what is acknowledged and not written yet. */
  #acked: number[] = []
  #failure: Error | undefined
  #prefetch = 0
  #receiving = false
  #closing = false
  /** Barriers and cancels that wait for their answers. */
  #calls = 0
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  private constructor(channel: Channel, hooks: DeliveryChannelHooks) {
    this.#channel = channel
    this.#hooks = hooks
    channel.on('error', (error: Error) => {
      this.#failure = error
    })
    channel.on('handler-error' as 'error', (error: Error) => hooks.log.error({ err: error }, 'a delivery callback failed'))
    channel.on('close', () => this.#loseAll())
  }

  static async open(model: ChannelModel, hooks: DeliveryChannelHooks): Promise<DeliveryChannel> {
    return new DeliveryChannel(await within(hooks.timeout, 'channel.open', model.createChannel()), hooks)
  }

  /** How many deliveries are not settled. */
  get held(): number {
    return this.#held.size
  }

  /** Whether somebody waits for the broker to take a verdict: if the channel closed now, he would never know. */
  get isAwaited(): boolean {
    return this.#running !== undefined || this.#next !== undefined
  }

  /** What is not settled, in the order of its delivery. */
  unsettled(): Delivery[] {
    return [...this.#held.values()]
  }

  /** Why the channel is closed, as a problem. */
  failure(): Problem {
    return this.#failure
      ? brokerProblem(this.#failure)
      : new Problem('broker_unavailable', 'The connection to RabbitMQ was lost.')
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
      this.#reportIfIdle()
    }
  }

  /** How many messages the queue has for consumers. */
  async messageCount(queue: string): Promise<number> {
    return (await within(this.#hooks.timeout, 'queue.declare', this.#channel.checkQueue(queue))).messageCount
  }

  /** The receive is over: from here on the channel only holds what it delivered. */
  received(): void {
    this.#receiving = false
    this.onClosed = undefined
    this.#reportIfIdle()
  }

  /** Tells the broker the verdict. It is on its way, not yet taken: see barrier(). False where the delivery is held no more. */
  settle(delivery: Delivery, verdict: Disposition): boolean {
    if (this.closed || this.#closing || !this.#held.delete(delivery.tag)) return false
    if (verdict === 'ack') {
      if (this.#acked.push(delivery.tag) === 1) setImmediate(() => this.#flush())
    } else {
      // Later, so that a barrier for this verdict comes first: nobody else's receive may stand between the two.
      if (this.#held.size === 0) setImmediate(() => this.#reportIfIdle())
      return this.#tell((channel) => channel.nack(asMessage(delivery.tag), false, verdict === 'requeue'))
    }
    return true
  }

  /** Acknowledges everything held up to and with this delivery, at once. */
  ackUpTo(last: Delivery): void {
    if (!this.#held.has(last.tag)) return
    for (const held of this.#held.values()) if (held.tag <= last.tag) this.settle(held, 'ack')
    this.#flush()
  }

  /** Gives everything held back to its queue, in one frame. */
  requeueAll(): void {
    if (this.closed || this.#held.size === 0) return
    this.#flush()
    let last = 0
    for (const tag of this.#held.keys()) last = Math.max(last, tag)
    this.#held.clear()
    this.#tell((channel) => channel.nack(asMessage(last), true, true))
    setImmediate(() => this.#reportIfIdle())
  }

  /** Writes what was acknowledged in this turn: in one frame for all that came before everything that is still held. */
  #flush(): void {
    if (this.#acked.length === 0) return
    const tags = this.#acked.sort((a, b) => a - b)
    this.#acked = []
    const oldest = this.#held.keys().next().value ?? Number.POSITIVE_INFINITY
    const together = tags.filter((tag) => tag < oldest)
    const last = together.at(-1)
    this.#tell((channel) => {
      if (last !== undefined) channel.ack(asMessage(last), together.length > 1)
      for (const tag of tags.slice(together.length)) channel.ack(asMessage(tag))
    })
    this.#reportIfIdle()
  }

  #tell(tell: (channel: Channel) => void): boolean {
    try {
      tell(this.#channel)
      return true
    } catch {
      return false // the channel is closing: its 'close' event follows
    }
  }

  /** Stops holding a delivery whose queue is known to be deleted, without a word to the broker. */
  forget(delivery: Delivery): void {
    this.#held.delete(delivery.tag)
    this.#reportIfIdle()
  }

  /**
   * Resolves once the broker has taken every verdict written so far: a round trip (basic.qos) on this very channel, shared
   * by all who wait at the same time.
   * @throws where the channel closed, or did not answer in time and was given up: the verdicts' fate is not known.
   */
  async barrier(): Promise<void> {
    this.#calls++
    try {
      // What else is settled in this turn of the event loop shares the round, and what is while one runs shares the next.
      this.#next ??= (this.#running ?? nextTurn()).then(() => this.#round())
      await this.#next
    } finally {
      this.#calls--
      this.#reportIfIdle()
    }
  }

  #round(): Promise<void> {
    this.#next = undefined
    this.#flush()
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
    this.#flush()
    this.#closing = true
    try {
      await waitQuietly(this.#hooks.timeout, this.#channel.close())
    } catch {
      // it is closing already
    }
    this.#loseAll()
  }

  #reportIfIdle(): void {
    const busy = this.#held.size > 0 || this.#acked.length > 0 || this.#receiving || this.#calls > 0
    if (!busy && !this.closed && !this.#closing) this.#hooks.onIdle(this)
  }

  #loseAll(): void {
    if (this.closed) return
    this.closed = true
    const held = [...this.#held.values()]
    this.#held.clear()
    for (const delivery of held) delivery.onLost?.()
    this.onClosed?.()
    this.#hooks.onClosed(this)
  }
}

const asMessage = (deliveryTag: number) => ({ fields: { deliveryTag } }) as ConsumeMessage
