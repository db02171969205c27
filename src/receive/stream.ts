// A consumer for as long as a client's connection is open: what it can read is written, what it doesn't settle goes back.

import type { Delivery } from '../amqp/consume/delivery.js'
import type { DeliveryChannel } from '../amqp/consume/delivery-channel.js'
import { giveBack } from '../amqp/consume/receive.js'
import type { Vhosts } from '../amqp/vhosts.js'
import type { Login } from '../amqp/wire/connection.js'
import type { FieldValue } from '../amqp/wire/field-table.js'
import type { Config } from '../config/index.js'
import type { Leases } from '../leases/leases.js'
import type { Lease } from '../leases/table.js'
import type { Metrics } from '../metrics.js'
import { invalidRequest, Problem } from '../problems.js'
import type { Received } from './receiver.js'

export interface StreamRequest {
  vhost: string | undefined
  login?: Login | undefined
  queue: string
  /** undefined: manual, or auto for a RabbitMQ stream, which knows nothing else. */
  ack: 'manual' | 'auto' | undefined
  /** 1 to 1000 unsettled messages at once. */
  prefetch: number
  /** Milliseconds that each lease lasts. */
  lease: number
  /** Where to begin in a RabbitMQ stream, as the broker takes it. */
  offset: FieldValue | undefined
}

/** Where a stream's messages go. One write at a time, so that a client that stops reading costs its prefetch and no more. */
export interface Sink {
  /** Writes messages in one piece; `flushed` is called when the client's socket has taken them. */
  write: (messages: Received, flushed: () => void) => void
  /** Tells the client why the stream ends, and ends it. */
  end: (reason: Problem) => void
  /** Ends it without a word: the client does not read. */
  cut: () => void
}

let streamTags = 0

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

  get open(): number {
    return this.#open.size
  }

  /**
   * Starts to consume. Resolves when the broker has accepted the consumer; nothing is written before start() is called.
   * @throws Problem queue_not_found, invalid_request (an offset for a queue that is no stream), too_many_waiters,
   *   too_many_leases…
   */
  async consume(request: StreamRequest): Promise<MessageStream> {
    if (this.#draining) throw new Problem('shutting_down', 'The gateway is shutting down and starts no streams.')
    if (this.#open.size >= this.#config.MAX_STREAMS) {
      throw new Problem('too_many_waiters', `As many streams are open as may (${this.#config.MAX_STREAMS}).`)
    }
    const vhost = await this.#vhosts.get(request.vhost, request.login)
    const type = await vhost.topology.queueTypes.currentType(request.queue)
    const isStream = type === 'stream'
    if (!isStream && request.offset !== undefined) throw invalidRequest('/query/offset', 'is only for a RabbitMQ stream')
    if (isStream && request.ack === 'manual') throw invalidRequest('/query/ack', 'must be auto for a RabbitMQ stream')
    const manual = !isStream && request.ack !== 'auto'
    if (manual) this.#leases.requireRoom(request.prefetch)
    const { channel, epoch, brokerVersion } = await vhost.takeReceiveChannel(request.queue)
    const stream = new MessageStream({
      channel,
      isStream,
      counts: type === 'quorum',
      manual,
      patience: request.lease,
      brokerVersion,
      prefetch: request.prefetch,
      lease: (delivery, receivedAt) =>
        this.#leases.create(vhost, request.queue, epoch, [delivery], request.lease, receivedAt)[0]!,
      leases: this.#leases,
      metrics: this.#metrics,
      onEnd: () => this.#open.delete(stream),
    })
    this.#open.add(stream)
    await stream.consume(request.queue, isStream ? (request.offset ?? 'next') : undefined)
    return stream
  }

  /** Ends every stream, with the reason. */
  drain(): void {
    this.#draining = true
    const reason = new Problem('shutting_down', 'The gateway is shutting down. Connect again: another instance serves.')
    for (const stream of this.#open) stream.end(reason)
  }
}

interface StreamParts {
  channel: DeliveryChannel
  isStream: boolean
  /** Whether the queue counts deliveries: it does so from the second on, so that a first one has to be told apart. */
  counts: boolean
  manual: boolean
  /** Milliseconds after which leases that the client has not even read are over, and it is given up. */
  patience: number
  brokerVersion: string
  prefetch: number
  lease: (delivery: Delivery, receivedAt: number) => Lease
  leases: Leases
  metrics: Metrics
  onEnd: () => void
}

export class MessageStream {
  readonly #parts: StreamParts
  readonly #tag = `gateway.stream.${++streamTags}`
  #sink: Sink | undefined
  /** Delivered and not written: never more than the prefetch. */
  #waiting: { delivery: Delivery; at: number }[] = []
  #open: Lease[] = []
  #writing = false
  #stalled: NodeJS.Timeout | undefined
  #scheduled = false
  #ended = false

  constructor(parts: StreamParts) {
    this.#parts = parts
  }

  async consume(queue: string, offset: FieldValue | undefined): Promise<void> {
    const { channel, prefetch } = this.#parts
    channel.onClosed = () => this.end(channel.failure())
    const onDelivery = (delivery: Delivery | null) => {
      if (delivery) {
        if (this.#parts.counts && !delivery.redelivered) delivery.deliveryCount ??= 1
        this.#waiting.push({ delivery, at: Date.now() })
        this.#schedule()
      } else {
        this.end(new Problem('queue_not_found', `The queue '${queue}' was deleted, or its node went away.`))
      }
    }
    try {
      await channel.consume(queue, { tag: this.#tag, prefetch, offset }, onDelivery)
    } catch (error) {
      this.#ended = true
      this.#parts.onEnd()
      const problem = error instanceof Problem ? error : channel.failure()
      void channel.close()
      channel.received()
      throw problem
    }
  }

  /** Begins to write. */
  start(sink: Sink): void {
    this.#sink = sink
    this.#schedule()
  }

  /** Ends the stream: the client went away (no reason), or has to be told why. Everything unsettled goes back at once. */
  end(reason?: Problem): void {
    if (this.#ended) return
    this.#ended = true
    clearTimeout(this.#stalled)
    this.#parts.onEnd()
    if (reason) this.#sink?.end(reason)
    void this.#close()
  }

  async #close(): Promise<void> {
    const { channel, isStream, leases, brokerVersion } = this.#parts
    channel.onClosed = undefined
    if (isStream) {
      await channel.close() // a stream takes nothing back
    } else if (!channel.closed) {
      await channel.cancel(this.#tag).catch(() => channel.close())
      const held = [...leases.takeBack(this.#open), ...this.#waiting.map(({ delivery }) => delivery)]
      // What was written with ack=auto and not taken by the socket is held by nobody else.
      for (const delivery of channel.unsettled()) if (!held.includes(delivery) && !this.#parts.manual) held.push(delivery)
      await giveBack(
        held.sort((a, b) => a.tag - b.tag),
        brokerVersion,
      )
    }
    this.#waiting = []
    channel.received()
  }

  /** One write a turn, for all that came in it. */
  #schedule(): void {
    if (this.#scheduled || this.#writing || !this.#sink || this.#waiting.length === 0) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#ended || this.#writing || !this.#sink || this.#waiting.length === 0) return
    const { manual, lease, leases, metrics, prefetch, channel } = this.#parts
    const batch = this.#waiting
    this.#waiting = []
    const messages = batch.map(({ delivery, at }) => ({ delivery, lease: manual ? lease(delivery, at) : undefined }))
    if (manual) {
      if (this.#open.length > 2 * prefetch) this.#open = this.#open.filter((one) => leases.isOpen(one))
      this.#open.push(...messages.map((message) => message.lease!))
    }
    metrics.received(manual ? 'manual' : 'auto', messages.length)
    this.#writing = true
    // It would hold messages for as long as it likes: the broker sends it again what ran out.
    if (manual) this.#stalled = setTimeout(() => this.#giveUp(), this.#parts.patience)
    this.#sink.write(messages, () => {
      clearTimeout(this.#stalled)
      this.#writing = false
      if (!manual && !this.#ended) channel.ackUpTo(batch.at(-1)!.delivery)
      this.#schedule()
    })
  }

  #giveUp(): void {
    this.#sink?.cut()
    this.end()
  }
}
