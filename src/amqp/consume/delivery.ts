// One message that came and is not settled, and what its headers tell of the times it came before.

import type { ConsumeMessage } from '../wire/amqplib.js'
import type { Properties, ReceivedMessage } from '../wire/message.js'
import type { DeliveryChannel } from './delivery-channel.js'

/** What the broker is told of a delivery: done, back to its queue, or away to the dead-letter exchange. */
export type Disposition = 'ack' | 'requeue' | 'reject'

/** Of a message that is a copy of one that was given back: how often that was delivered, */
export const DELIVERIES_HEADER = 'x-gateway-delivery-count'
/** how often in vain to a subscription's endpoint, */
export const ATTEMPTS_HEADER = 'x-gateway-attempts'
/** and from which queue. In another one, as among the dead letters, both begin anew. */
export const QUEUE_HEADER = 'x-gateway-queue'

const EMPTY_BODY = Buffer.alloc(0)

/** One message, delivered and not settled. */
export class Delivery implements ReceivedMessage {
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
    this.body = EMPTY_BODY
  }
}
