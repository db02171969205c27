// A delivered message that is not settled yet, and what its headers say about earlier deliveries.

import type { ConsumeMessage } from '../wire/amqplib.js'
import type { Properties, ReceivedMessage } from '../wire/message.js'
import { ATTEMPTS_HEADER, DELIVERIES_HEADER, QUEUE_HEADER } from '../wire/reserved.js'

/** What RabbitMQ is told about a delivery: done, back to its queue, or rejected to the dead-letter exchange. */
export type Disposition = 'ack' | 'requeue' | 'reject'

/** The channel that holds deliveries until they are settled. */
export interface DeliveryHolder {
  readonly closed: boolean
  /** How many deliveries are not settled. */
  readonly held: number
  /** Whether a caller waits for RabbitMQ to take a settle. */
  readonly isAwaited: boolean
  /** Writes a disposition. Returns false if the delivery is no longer held. */
  settle(delivery: Delivery, disposition: Disposition): boolean
  /** Stops holding a delivery without telling RabbitMQ. */
  forget(delivery: Delivery): void
  /** Gives everything back to its queue, in one frame. */
  requeueAll(): void
  /**
   * Resolves once RabbitMQ has taken every settle written so far; rejects if that cannot be known, or with Problem lease_gone if
   * the queue was deleted.
   */
  barrier(): Promise<void>
  /** Asks whether the queue still exists. @throws Problem lease_gone: it was deleted; nothing if RabbitMQ does not tell */
  look(): Promise<void>
  close(): Promise<void>
}

const EMPTY_BODY = Buffer.alloc(0)

/** One message, delivered and not settled. */
export class Delivery implements ReceivedMessage {
  readonly channel: DeliveryHolder
  /** The delivery tag. Tags grow from one delivery of a channel to the next. */
  readonly tag: number
  readonly exchange: string
  readonly routingKey: string
  readonly redelivered: boolean
  properties: Properties
  body: Buffer
  /** 1 at the first delivery; undefined if neither RabbitMQ nor the gateway counts. */
  deliveryCount: number | undefined
  /** How many earlier deliveries to a subscription's endpoint failed. */
  attempts = 0
  /** Called once if the channel closes first: RabbitMQ has requeued the message, or will. */
  onLost: (() => void) | undefined

  constructor(channel: DeliveryHolder, message: ConsumeMessage) {
    const { fields, properties, content } = message
    this.channel = channel
    this.tag = fields.deliveryTag
    this.exchange = fields.exchange
    this.routingKey = fields.routingKey
    this.redelivered = fields.redelivered
    this.properties = properties as Properties
    this.body = content
    // RabbitMQ 4.3 counts all earlier deliveries in x-acquired-count, and only failed ones in x-delivery-count.
    const { headers } = this.properties
    // On a first delivery neither belongs to this queue: a dead letter still carries the count of the queue it died in.
    const earlier = this.redelivered ? (headers?.['x-acquired-count'] ?? headers?.['x-delivery-count']) : undefined
    // A copy reaches its queue through the default exchange, and only in that queue does the queue's name match.
    const isCopy = headers !== undefined && this.exchange === '' && headers[QUEUE_HEADER] === this.routingKey
    const before = isCopy ? headers[DELIVERIES_HEADER] : undefined
    const attempts = isCopy ? headers[ATTEMPTS_HEADER] : undefined
    if (typeof attempts === 'number' && attempts > 0) this.attempts = attempts
    if (typeof earlier === 'number') this.deliveryCount = earlier + 1
    else if (typeof before === 'number') this.deliveryCount = this.redelivered ? 2 : 1
    if (typeof before === 'number' && this.deliveryCount !== undefined) this.deliveryCount += before
  }

  /** Frees the content of a delivery that is only held, to be given back later. */
  empty(): void {
    this.properties = {}
    this.body = EMPTY_BODY
  }
}
