// A channel that receives and holds what is not settled yet. Only this file sends delivery tags: only tags it holds, each once,
// since RabbitMQ closes a channel over an unknown tag and requeues everything on it.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import type { Channel, ConsumeMessage } from '../wire/amqplib.js'
import { breaksErrorText } from '../wire/crash-guards.js'
import { waitQuietly, within } from '../wire/deadline.js'
import { brokerProblem, isQueueMissing } from '../wire/errors.js'
import type { FieldValue } from '../wire/field-table.js'
import { Delivery, type DeliveryHolder, type Disposition } from './delivery.js'

export interface DeliveryChannelHooks {
  log: Log
  vhost: string
  /** BROKER_TIMEOUT, in milliseconds. */
  timeout: number
  /** Called when the channel holds nothing, receives nothing and waits for nothing: the next receive may use it. */
  onIdle: (channel: DeliveryChannel) => void
  onClosed: (channel: DeliveryChannel) => void
  /** Why the connection ended, if that is why the channel is closed. */
  lost: () => Problem
  /** Called when a receive of the queue ends and the channel goes on. isEmpty: RabbitMQ delivered nothing to it. */
  onReceived: (queue: string, isEmpty: boolean) => void
  /** Called when RabbitMQ does not answer a call about the queue in time. */
  onSilent: (queue: string) => void
}

/** Consumes on one AMQP channel, holds the deliveries, and settles them with barriers. */
export class DeliveryChannel implements DeliveryHolder {
  closed = false
  /** Called once if the channel closes during a receive. */
  onClosed: (() => void) | undefined
  readonly #channel: Channel
  readonly #hooks: DeliveryChannelHooks
  /** By tag, in order of delivery. */
  readonly #held = new Map<number, Delivery>()
  /** Tags that are acknowledged and not written yet. */
  #acked: number[] = []
  #failure: Error | undefined
  #prefetch = 0
  /** The queue of the receive under way, or else of the last one: everything held is from it. */
  #queue = ''
  #receiving = false
  /** Whether the receive under way was delivered something. */
  #delivered = false
  #closing = false
  /** Barriers and cancels that wait for their answers. */
  #calls = 0
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined
  #looking: Promise<void> | undefined

  constructor(channel: Channel, hooks: DeliveryChannelHooks) {
    this.#channel = channel
    this.#hooks = hooks
    channel.on('error', (error: Error) => {
      this.#failure = error
    })
    channel.on('handler-error' as 'error', (error: Error) => hooks.log.error({ err: error }, 'delivery callback failed'))
    channel.on('close', () => this.#loseAll())
  }

  /** How many deliveries are not settled. */
  get held(): number {
    return this.#held.size
  }

  /** The queue of the receive under way. */
  get receivesFrom(): string | undefined {
    return this.#receiving ? this.#queue : undefined
  }

  /** Whether a caller waits for RabbitMQ to take a settle. If the channel closed now, the outcome would stay unknown. */
  get isAwaited(): boolean {
    return this.#running !== undefined || this.#next !== undefined
  }

  /** The deliveries that are not settled, in order of delivery. */
  unsettled(): Delivery[] {
    return [...this.#held.values()]
  }

  /** Why the channel is closed. */
  failure(): Problem {
    return this.#failure ? brokerProblem(this.#failure) : this.#hooks.lost()
  }

  /**
   * Starts a consumer that gets at most `prefetch` unsettled deliveries. Resolves once RabbitMQ has accepted it.
   * @param offset where to begin in a RabbitMQ stream; undefined for every other queue, and a stream is refused then
   * @param onDelivery called with each delivery; with null if RabbitMQ ends the consumer (its queue was deleted)
   * @throws Problem broker_timeout, and what amqplib rejects with: see `failure()` for the reason
   */
  async consume(
    queue: string,
    { tag, prefetch, offset }: { tag: string; prefetch: number; offset?: FieldValue | undefined },
    onDelivery: (delivery: Delivery | null) => void,
  ): Promise<void> {
    this.#receiving = true
    this.#queue = queue
    if (this.#prefetch !== prefetch) {
      this.#prefetch = prefetch
      await within(this.#hooks.timeout, 'basic.qos', this.#channel.prefetch(prefetch))
    }
    const consumer = (message: ConsumeMessage | null): void => {
      const delivery = message && new Delivery(this, message, queue)
      this.#delivered = true
      if (delivery) this.#held.set(delivery.tag, delivery)
      if (delivery?.isOverdue) {
        this.settle(delivery, 'requeue')
        return
      }
      onDelivery(delivery)
    }
    // A stream refuses this argument with an error of this channel alone; for every other queue 0 is the default.
    const args = offset === undefined ? { 'x-priority': 0 } : { 'x-stream-offset': offset }
    const options = { consumerTag: tag, arguments: args }
    await this.#ask('basic.consume', this.#channel.consume(queue, consumer, options))
  }

  /** Ends the consumer. After it has resolved nothing more is delivered. Settles written in between come after the cancel. */
  async cancel(tag: string): Promise<void> {
    this.#calls++
    try {
      await this.#ask('basic.cancel', this.#channel.cancel(tag))
    } finally {
      this.#calls--
      this.#reportIfIdle()
    }
  }

  /** How many messages of the queue are ready for consumers. */
  async messageCount(queue: string): Promise<number> {
    return (await this.#ask('queue.declare', this.#channel.checkQueue(queue))).messageCount
  }

  /** Ends a receive: from now on the channel only holds its deliveries, and is idle once they are settled. */
  received(): void {
    if (this.#receiving && !this.closed && !this.#closing) this.#hooks.onReceived(this.#queue, !this.#delivered)
    this.#receiving = false
    this.#delivered = false
    this.onClosed = undefined
    this.#reportIfIdle()
  }

  /**
   * Writes a disposition. RabbitMQ has taken it once `barrier()` resolves.
   * @returns false if the delivery is no longer held
   */
  settle(delivery: Delivery, disposition: Disposition): boolean {
    if (this.closed || this.#closing || !this.#held.delete(delivery.tag)) return false
    if (disposition === 'ack') {
      if (this.#acked.push(delivery.tag) === 1) setImmediate(() => this.#flush())
    } else {
      // Not before the next turn: the barrier of this settle must come first, with no other receive between the two.
      if (this.#held.size === 0) setImmediate(() => this.#reportIfIdle())
      return this.#write((channel) => channel.nack(asMessage(delivery.tag), false, disposition === 'requeue'))
    }
    return true
  }

  /** Acknowledges everything held up to and including this delivery. */
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
    this.#write((channel) => channel.nack(asMessage(last), true, true))
    setImmediate(() => this.#reportIfIdle())
  }

  /** Writes the acks of this turn: one frame for all tags below the oldest one still held, one frame each for the rest. */
  #flush(): void {
    if (this.#acked.length === 0) return
    const tags = this.#acked.sort((a, b) => a - b)
    this.#acked = []
    const oldest = this.#held.keys().next().value ?? Number.POSITIVE_INFINITY
    const together = tags.filter((tag) => tag < oldest)
    const last = together.at(-1)
    this.#write((channel) => {
      if (last !== undefined) channel.ack(asMessage(last), together.length > 1)
      for (const tag of tags.slice(together.length)) channel.ack(asMessage(tag))
    })
    this.#reportIfIdle()
  }

  #write(write: (channel: Channel) => void): boolean {
    try {
      write(this.#channel)
      return true
    } catch {
      return false // the channel is closing: its 'close' event follows
    }
  }

  /** Stops holding a delivery whose queue is known to be deleted, without telling RabbitMQ. */
  forget(delivery: Delivery): void {
    this.#held.delete(delivery.tag)
    this.#reportIfIdle()
  }

  /**
   * Resolves once RabbitMQ has taken every settle written so far. It is a round trip on this channel, which RabbitMQ handles in
   * order: a look at the queue, since RabbitMQ takes settles of a deleted queue without a word. Callers that wait at the same
   * time share one.
   * @throws Problem lease_gone: the queue was deleted, and RabbitMQ has closed the channel; anything else: the channel closed, or
   *   did not answer in time and was closed, and the outcome of the settles is unknown
   */
  async barrier(): Promise<void> {
    this.#calls++
    try {
      // Settles of the same turn share this round trip; settles that come while one runs share the next.
      this.#next ??= (this.#running ?? nextTurn()).then(() => this.#roundTrip())
      await this.#next
    } finally {
      this.#calls--
      this.#reportIfIdle()
    }
  }

  /** Waits for the answer to a call about the queue. @throws Problem broker_timeout, and what the call rejects with */
  async #ask<T>(what: string, call: Promise<T>): Promise<T> {
    try {
      return await within(this.#hooks.timeout, what, call)
    } catch (error) {
      if (error instanceof Problem) this.#hooks.onSilent(this.#queue)
      throw error
    }
  }

  #roundTrip(): Promise<void> {
    this.#next = undefined
    this.#flush()
    const round = this.#lookUp().then(
      () => {
        if (this.#running === round) this.#running = undefined
      },
      (error) => {
        void this.close()
        throw error
      },
    )
    this.#running = round
    return round
  }

  /**
   * Asks whether the queue still exists, for what RabbitMQ has not been told yet. Resolves as well if RabbitMQ does not tell.
   * @throws Problem lease_gone: it was deleted, and RabbitMQ has closed the channel
   */
  async look(): Promise<void> {
    this.#calls++
    try {
      // Those who ask in the same turn share a look.
      this.#looking ??= nextTurn().then(() => {
        this.#looking = undefined
        return this.#lookUp()
      })
      await this.#looking
    } catch (error) {
      if (error instanceof Problem && error.code === 'lease_gone') throw error
    } finally {
      this.#calls--
      this.#reportIfIdle()
    }
  }

  /** One round trip that fails if the queue is gone. @throws Problem lease_gone, broker_timeout; what the call rejects with */
  async #lookUp(): Promise<void> {
    try {
      // RabbitMQ would end the connection over the error about such a name, so the round trip does not ask for the queue.
      if (breaksErrorText(this.#hooks.vhost, this.#queue)) {
        this.#prefetch = Math.max(1, this.#prefetch)
        await within(this.#hooks.timeout, 'basic.qos', this.#channel.prefetch(this.#prefetch))
      } else await this.#ask('queue.declare', this.#channel.checkQueue(this.#queue))
    } catch (error) {
      if (isQueueMissing(this.#failure ?? error)) throw new Problem('lease_gone', `The queue '${this.#queue}' was deleted.`)
      throw error
    }
  }

  /** Closes the channel. RabbitMQ returns everything held to its queue, in the old order. Resolves when RabbitMQ has answered. */
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
