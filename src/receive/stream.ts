// A consumer for as long as a client's connection is open. Messages are written as fast as the client reads; those that it does
// not settle go back.

import { Consumer } from '../amqp/consume/consumer.js'
import type { Delivery } from '../amqp/consume/delivery.js'
import type { QueueType } from '../amqp/consume/queue-types.js'
import type { ReceiveChannel } from '../amqp/consume/shared-receive.js'
import type { Vhost } from '../amqp/vhost.js'
import type { Vhosts } from '../amqp/vhosts.js'
import type { Login } from '../amqp/wire/connection.js'
import type { FieldValue } from '../amqp/wire/field-table.js'
import type { Config } from '../config/index.js'
import type { Leases } from '../leases/leases.js'
import type { Lease } from '../leases/table.js'
import { now } from '../lib/clock.js'
import type { Metrics } from '../metrics.js'
import { invalidRequest, Problem } from '../problems.js'
import type { Received } from './receiver.js'

export interface StreamRequest {
  /** The connection's own vhost if undefined. */
  vhost: string | undefined
  /** The RabbitMQ user to consume as; the gateway's own user if absent. */
  login?: Login | undefined
  queue: string
  /** Undefined: manual, or auto for a RabbitMQ stream, which knows nothing else. */
  ack: 'manual' | 'auto' | undefined
  /** The most unsettled messages at a time, 1 to 1000. */
  prefetch: number
  /** Milliseconds that each lease lasts. */
  lease: number
  /** Where to begin in a RabbitMQ stream, in AMQP's form. */
  offset: FieldValue | undefined
  /** Where to go on in a RabbitMQ stream, instead of `offset`. Only called for a stream. @throws Problem invalid_request */
  resumeAt?: (() => FieldValue) | undefined
}

/** Where a stream's messages go. One write at a time, so that a client that stops reading costs its prefetch and no more. */
export interface Sink {
  /** Writes messages in one piece. Calls `flushed` when the client's socket has taken them. */
  write: (messages: Received, flushed: () => void) => void
  /** Tells the client why the stream ends, and ends it. */
  end: (reason: Problem) => void
  /** Ends it at once: the client does not read. */
  cut: () => void
}

/** The open streams of this instance. */
export class Streams {
  readonly #config: Config
  readonly #metrics: Metrics
  readonly #vhosts: Vhosts
  readonly #leases: Leases
  readonly #open = new Set<MessageStream>()
  #draining = false

  constructor(options: { config: Config; metrics: Metrics; vhosts: Vhosts; leases: Leases }) {
    this.#config = options.config
    this.#metrics = options.metrics
    this.#vhosts = options.vhosts
    this.#leases = options.leases
  }

  /** How many streams are open. */
  get open(): number {
    return this.#open.size
  }

  /**
   * Starts to consume. Resolves when RabbitMQ has accepted the consumer. Nothing is written before `start()`.
   * @throws Problem queue_not_found, invalid_request (an offset for a queue that is not a stream), too_many_waiters,
   *   too_many_leases, queue_quarantined, shutting_down, access_refused, resource_locked, vhost_not_found, broker_unavailable,
   *   broker_timeout
   */
  async consume(request: StreamRequest): Promise<MessageStream> {
    if (this.#draining) throw shuttingDown()
    if (this.#open.size >= this.#config.MAX_STREAMS) {
      throw new Problem(
        'too_many_waiters',
        `The most streams that may be open are open (MAX_STREAMS ${this.#config.MAX_STREAMS}).`,
      )
    }
    const vhost = await this.#vhosts.get(request.vhost, request.login)
    const type = await vhost.typeToReceive(request.queue)
    const isStream = type === 'stream'
    if (!isStream && request.offset !== undefined) throw invalidRequest('/query/offset', 'is only for a RabbitMQ stream')
    if (isStream && request.ack === 'manual') throw invalidRequest('/query/ack', 'must be auto for a RabbitMQ stream')
    const manual = !isStream && request.ack !== 'auto'
    if (manual) this.#leases.requireRoom(request.prefetch)
    const offset = (isStream && request.resumeAt?.()) || request.offset
    const options = { vhost, request: { ...request, offset }, type, manual, leases: this.#leases, metrics: this.#metrics }
    const stream = new MessageStream({ ...options, onEnd: () => this.#open.delete(stream) })
    this.#open.add(stream)
    await stream.consume(await vhost.takeReceiveChannel(request.queue).catch((error) => stream.fail(error)))
    return stream
  }

  /** Ends every stream, and tells the clients why. */
  drain(): void {
    this.#draining = true
    for (const stream of this.#open) stream.end(shuttingDown())
  }
}

/** Why a stream ends, or does not start, while the gateway drains. */
export const shuttingDown = (): Problem =>
  new Problem('shutting_down', 'The gateway is shutting down. Connect again: another instance serves.')

interface MessageStreamOptions {
  vhost: Vhost
  request: StreamRequest
  type: QueueType
  /** Whether each message has a lease; otherwise it is acknowledged once the socket has taken it. */
  manual: boolean
  leases: Leases
  metrics: Metrics
  onEnd: () => void
}

let streamTags = 0

/** One client's stream. */
export class MessageStream {
  readonly #options: MessageStreamOptions
  #consumer: Consumer | undefined
  #sink: Sink | undefined
  /** Delivered and not written: never more than the prefetch. */
  #waiting: { delivery: Delivery; at: number }[] = []
  #open: Lease[] = []
  #writing = false
  #stalled: NodeJS.Timeout | undefined
  #scheduled = false
  #ended = false

  constructor(options: MessageStreamOptions) {
    this.#options = options
  }

  /** The offset of a message in a RabbitMQ stream; undefined in other queues, where the header is what its publisher wrote. */
  offsetOf({ properties }: Delivery): number | undefined {
    if (this.#options.type !== 'stream') return undefined
    const offset = Number(properties.headers?.['x-stream-offset'])
    return Number.isSafeInteger(offset) && offset >= 0 ? offset : undefined
  }

  /** Starts the consumer on a channel. Resolves when RabbitMQ has accepted it. @throws Problem: the stream is over then */
  async consume(place: ReceiveChannel): Promise<void> {
    const { request, type } = this.#options
    const { queue, prefetch } = request
    const offset = type === 'stream' ? (request.offset ?? 'next') : undefined
    // A quorum queue counts from the second delivery on, so the first is counted here.
    const counts = type === 'quorum'
    const onDelivery = (delivery: Delivery) => {
      if (counts && !delivery.redelivered) delivery.deliveryCount ??= 1
      this.#waiting.push({ delivery, at: now() })
      this.#schedule()
    }
    const tag = `gateway.stream.${++streamTags}`
    const onEnd = (reason: Problem) => this.end(reason)
    this.#consumer = await Consumer.start(place, { queue, tag, prefetch, offset, onDelivery, onEnd }).catch((error) =>
      this.fail(error),
    )
    if (this.#ended) await this.#close(this.#consumer)
  }

  /** Ends a stream that could not start. */
  fail(error: unknown): never {
    this.#ended = true
    this.#options.onEnd()
    throw error
  }

  /** Begins to write. */
  start(sink: Sink): void {
    this.#sink = sink
    this.#schedule()
  }

  /**
   * Ends the stream. Everything unsettled goes back at once.
   * @param reason what to tell the client; absent if the client went away
   */
  end(reason?: Problem): void {
    if (this.#ended) return
    this.#ended = true
    clearTimeout(this.#stalled)
    this.#options.onEnd()
    if (reason) this.#sink?.end(reason)
    if (this.#consumer) void this.#close(this.#consumer)
  }

  async #close(consumer: Consumer): Promise<void> {
    const { type, leases, manual } = this.#options
    if (type === 'stream') {
      await consumer.close() // a stream takes nothing back
    } else {
      await consumer.cancel()
      const held = [...leases.takeBack(this.#open), ...this.#waiting.map(({ delivery }) => delivery)]
      // With ack=auto nobody else holds what was written and not taken by the socket.
      if (!manual) for (const delivery of consumer.channel.unsettled()) if (!held.includes(delivery)) held.push(delivery)
      await consumer.release(held.sort((a, b) => a.tag - b.tag))
    }
    this.#waiting = []
  }

  /** One write a turn, for all messages that came in it. */
  #schedule(): void {
    if (this.#scheduled || this.#writing || !this.#sink || this.#waiting.length === 0) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    const consumer = this.#consumer
    if (this.#ended || this.#writing || !this.#sink || !consumer || this.#waiting.length === 0) return
    const { manual, leases, metrics, request } = this.#options
    if (this.#open.length > 2 * request.prefetch) this.#open = this.#open.filter((one) => leases.isOpen(one))
    const batch = this.#waiting
    this.#waiting = []
    const messages = batch.map(({ delivery, at }) => ({
      delivery,
      lease: manual ? this.#lease(consumer, delivery, at) : undefined,
    }))
    metrics.received(manual ? 'manual' : 'auto', messages.length)
    this.#writing = true
    // A client that does not read would hold its messages: after the lease's time they are over, and the stream ends.
    if (manual) this.#stalled = setTimeout(() => this.#giveUp(), request.lease)
    this.#sink.write(messages, () => {
      clearTimeout(this.#stalled)
      this.#writing = false
      const last = batch.at(-1)
      if (!manual && !this.#ended && last) consumer.channel.ackUpTo(last.delivery)
      this.#schedule()
    })
  }

  #lease({ epoch }: Consumer, delivery: Delivery, receivedAt: number): Lease | undefined {
    const { vhost, request, leases } = this.#options
    const { queue, lease: duration } = request
    const [lease] = leases.create({ vhost, queue, epoch, deliveries: [delivery], duration, receivedAt })
    if (lease) this.#open.push(lease)
    return lease
  }

  #giveUp(): void {
    this.#sink?.cut()
    this.end()
  }
}
