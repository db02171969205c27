// Collects the messages of one receive: exactly those that it returns, in the order of the queue, and all that are ready.
//
// A cancel may overtake deliveries of a quorum queue. RabbitMQ puts those back: with one delivery counted, and in RabbitMQ 3 at
// the tail of the queue. Nothing can be overtaken if the consumer's prefetch is used up. So the collector asks a quorum queue
// how many messages it has, and starts a consumer for exactly these. A classic queue keeps what a cancel overtakes in its place.

import { now } from '../../lib/clock.js'
import { Pause } from '../../lib/pause.js'
import { Problem } from '../../problems.js'
import { brokerProblem } from '../wire/errors.js'
import type { Delivery } from './delivery.js'
import type { DeliveryChannel } from './delivery-channel.js'
import type { QueueType } from './queue-types.js'
import { type ReceiveOptions, requeuesAtTail } from './receive.js'

/** The most messages of the first consumer. The sizes of its messages tell how many more fit in the response. */
const FIRST_CONSUMER = 32
/** The most consumers of one receive: the end for a receive whose queue is filled as fast as it is emptied. */
const MAX_CONSUMERS = 8
/** A queue that delivers nothing for this long is asked whether it has messages left. */
const QUIET_MS = 10
/** The same for the first question to a classic queue, which delivers at once. */
const FIRST_QUIET_MS = 1
/** How long a queue that has messages may deliver nothing before the receive ends: they are for another consumer. */
const SILENCE_MS = 50
/** The same before the first message. */
const FIRST_SILENCE_MS = 250

/** What the way of receiving from a queue depends on. */
export interface QueueTraits {
  /** Undefined if it is unknown. */
  type: QueueType | undefined
  brokerVersion: string
}

/** What a receive took. */
export interface Collected {
  /** In the order of the queue; all held by the receive's channel. */
  deliveries: Delivery[]
  /** How many of them the response may hold. The rest has to go back. */
  fitting: number
  /** Whether a limit of the gateway ended the receive, although more messages were ready. */
  more: boolean
}

/**
 * Takes up to `max` messages, as soon as there is at least one, on a channel that no other receive uses, and collects what is
 * ready. Resolves with an empty list if none came in time, or if the receive was aborted.
 * @throws Problem queue_not_found, stream_queue, resource_locked, access_refused, broker_unavailable, broker_timeout;
 *   the channel is then closed, or closing, and everything it had taken is back in the queue
 */
export async function receive(channel: DeliveryChannel, options: ReceiveOptions, from: QueueTraits): Promise<Collected> {
  const collector = new Collector(channel, options, from)
  try {
    await collector.collect()
    return { deliveries: collector.deliveries, fitting: collector.fitting, more: collector.more }
  } catch (error) {
    if (error instanceof Problem) {
      void channel.close()
      throw error
    }
    throw channelProblem(channel, error)
  } finally {
    options.abort.onAbort(undefined)
    channel.received()
  }
}

function channelProblem(channel: DeliveryChannel, error: unknown): Problem {
  // The channel's own error has the reply code; the call's rejection may only say "channel closed".
  if (channel.closed) return channel.failure()
  void channel.close()
  return brokerProblem(error)
}

let receives = 0

/** One receive on one channel. Its consumers run one after the other, and hold what they were delivered until the end. */
class Collector {
  readonly deliveries: Delivery[] = []
  /** Whether a limit of the gateway ended the receive, although more messages were ready. */
  more = false
  readonly #channel: DeliveryChannel
  readonly #options: ReceiveOptions
  readonly #traits: QueueTraits
  /** Whether a cancel could overtake deliveries, which would lose their place. */
  readonly #isOvertaken: boolean
  readonly #tag = `gateway.${++receives}`
  readonly #pause = new Pause()
  /** How many consumers were started. */
  #consumers = 0
  /** The cancels of all consumers but the last. */
  readonly #cancels: Promise<void>[] = []
  /** How many deliveries there are once the prefetch of the last consumer is used up. */
  #expected = 0
  /** Whether RabbitMQ ended a consumer. */
  #ended = false
  #bytes = 0
  #largest = 0

  constructor(channel: DeliveryChannel, options: ReceiveOptions, traits: QueueTraits) {
    this.#channel = channel
    this.#options = options
    this.#traits = traits
    this.#isOvertaken = traits.type === 'quorum' || traits.type === 'other'
    channel.onClosed = this.#wake
    options.abort.onAbort(this.#wake)
  }

  /** How many of the deliveries the response may hold, at least one if there is one. */
  get fitting(): number {
    let bytes = 0
    const end = this.deliveries.findIndex(({ body }, index) => {
      bytes += body.length
      return bytes > this.#options.maxBytes && index > 0
    })
    return end === -1 ? this.deliveries.length : end
  }

  /** Resolves when nothing more will be delivered. @throws Problem broker_timeout, and as `DeliveryChannel.consume()` */
  async collect(): Promise<void> {
    for (;;) {
      const prefetch = await this.#nextPrefetch()
      if (prefetch === 0) break
      await this.#consume(prefetch)
      await this.#waitForFirst()
      await this.#fill()
      if (this.#channel.closed) throw this.#channel.failure()
      if (!this.#ended) {
        if (!this.#isFull || this.deliveries.length === this.#options.max) break
      } else if (this.deliveries.length > 0) {
        throw new Problem(
          'broker_unavailable',
          'RabbitMQ ended the consumer: the queue was deleted or has moved to another node.',
        )
      }
      // A consumer that RabbitMQ ended before its first message: consuming again tells whether the queue was deleted.
    }
    await this.#cancelLast()
  }

  readonly #wake = (): void => this.#pause.end()

  get #isFull(): boolean {
    return this.deliveries.length >= this.#expected
  }

  /** Whether the present consumer has nothing more to bring. */
  get #isDone(): boolean {
    return this.#isFull || this.#ended || this.#channel.closed || this.#options.abort.reason !== undefined
  }

  /** Whether the receive may still wait for its first message. */
  get #mayWait(): boolean {
    return this.deliveries.length === 0 && this.#options.until > now() && !this.#options.abort.reason
  }

  #countReady(): Promise<number> {
    return this.#channel.messageCount(this.#options.queue)
  }

  /** How many messages the next consumer may take; 0 ends the receive. */
  async #nextPrefetch(): Promise<number> {
    const { max, maxBytes } = this.#options
    let room = max - this.deliveries.length
    let fits = FIRST_CONSUMER
    if (this.deliveries.length > 0) {
      if (this.#options.abort.reason) return 0
      fits = this.#consumers < MAX_CONSUMERS ? Math.floor((maxBytes - this.#bytes) / Math.max(1, this.#largest)) : 0
    }
    // A consumer for one message that waits cannot be told more by the queue.
    if ((this.#isOvertaken && !(max === 1 && this.#mayWait)) || fits <= 0) {
      const ready = await this.#countReady()
      if (ready === 0 && !this.#mayWait) return 0
      this.more = fits <= 0
      room = Math.min(room, Math.max(1, ready))
    }
    return Math.max(0, Math.min(room, fits))
  }

  async #consume(prefetch: number): Promise<void> {
    const previous = this.#lastTag
    const hadEnded = this.#ended
    const had = this.#consumers++
    this.#expected = this.deliveries.length + prefetch
    this.#ended = false
    await this.#channel.consume(this.#options.queue, { tag: this.#lastTag, prefetch }, (delivery) => {
      if (delivery) this.#add(delivery)
      else this.#ended = true
      this.#wake()
    })
    // Not before: a queue with auto_delete is deleted with its last consumer.
    if (had === 0 || hadEnded) return
    const cancelled = this.#channel.cancel(previous)
    cancelled.catch(() => undefined) // awaited at the end
    this.#cancels.push(cancelled)
  }

  /** In the order of their consumers even as texts: RabbitMQ gives messages back by consumer, in the order of the tags. */
  get #lastTag(): string {
    return `${this.#tag}.${this.#consumers}`
  }

  #add(delivery: Delivery): void {
    this.deliveries.push(delivery)
    this.#bytes += delivery.body.length
    this.#largest = Math.max(this.#largest, delivery.body.length)
  }

  async #waitForFirst(): Promise<void> {
    const left = this.#options.until - now()
    if (!this.#mayWait || left <= 0) return
    this.#options.onWait?.(1)
    while (!this.#isDone && this.deliveries.length === 0) {
      const rest = this.#options.until - now()
      if (rest <= 0 || !(await this.#pause.take(rest))) break
    }
    this.#options.onWait?.(-1)
  }

  /** Waits until the consumer is full, or the queue has nothing left for it. */
  async #fill(): Promise<void> {
    await this.#quiet(this.#isOvertaken ? QUIET_MS : FIRST_QUIET_MS)
    let silence = 0
    while (!this.#isDone && silence < (this.deliveries.length > 0 ? SILENCE_MS : FIRST_SILENCE_MS)) {
      const before = this.deliveries.length
      const ready = await this.#countReady()
      // A classic queue answers after it has delivered. The messages of a quorum queue may still be on their way.
      if (ready === 0 && !this.#isOvertaken) return
      await this.#quiet(QUIET_MS)
      if (this.deliveries.length > before) silence = 0
      else if (ready === 0) return
      else silence += QUIET_MS
    }
  }

  /** Waits until the consumer is full, or has brought nothing for a moment. */
  async #quiet(milliseconds: number): Promise<void> {
    while (!this.#isDone && (await this.#pause.take(milliseconds)));
  }

  async #cancelLast(): Promise<void> {
    await Promise.all(this.#cancels)
    if (this.#consumers === 0 || this.#ended) return
    const { type, brokerVersion } = this.#traits
    if (this.deliveries.length === 0 && type !== 'classic' && requeuesAtTail(brokerVersion)) {
      // What the end of the consumer overtakes keeps its place only if the channel closes.
      await this.#channel.close()
      this.deliveries.length = 0
      return
    }
    const cancelled = this.#channel.cancel(this.#lastTag)
    // A consumer whose prefetch is used up gets nothing more, and every settle of these messages comes after the cancel. So
    // nobody waits for its answer. If none comes, the channel is closed, as if it had died a moment later.
    if (this.#isFull) cancelled.catch(() => this.#channel.close())
    else await cancelled
  }
}
