// A delivered message that is not settled yet, and what its headers say about earlier deliveries.

import { wallTime } from '../../lib/clock.js'
import type { ConsumeMessage } from '../wire/amqplib.js'
import { ownHeadersOf } from '../wire/encoded-properties.js'
import type { FieldTable, FieldValue } from '../wire/field-table.js'
import type { Properties, ReceivedMessage } from '../wire/message.js'
import { type Failure, type OwnRecord, readFailures, readOwnRecord } from '../wire/own-headers.js'
import { isCopyExchange } from '../wire/reserved.js'

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
  /** The exchange that the message was published to first: RabbitMQ delivers a copy with the exchange of the copy. */
  readonly exchange: string
  readonly routingKey: string
  readonly redelivered: boolean
  properties: Properties
  body: Buffer
  /** 1 at the first delivery; undefined if neither RabbitMQ nor the gateway counts. */
  deliveryCount: number | undefined
  /** How many earlier deliveries to a subscription's endpoint failed. */
  readonly attempts: number
  /** What the gateway has written on a copy; undefined for any other message. */
  readonly own: OwnRecord | undefined
  /** Why it was given back before, the last time last; undefined if the gateway does not know of any. */
  readonly failures: readonly Failure[] | undefined
  /** When the message expires, in milliseconds since 1970, as far as that is known; undefined if it does not. */
  readonly expiresAt: number | undefined
  /** Called once if the channel closes first: RabbitMQ has requeued the message, or will. */
  onLost: (() => void) | undefined

  /** @param queue the queue that it was delivered from */
  constructor(channel: DeliveryHolder, message: ConsumeMessage, queue: string) {
    const { fields, properties, content } = message
    this.channel = channel
    this.tag = fields.deliveryTag
    this.routingKey = fields.routingKey
    this.redelivered = fields.redelivered
    this.properties = properties as Properties
    this.body = content
    // RabbitMQ 4.3 counts all earlier deliveries in x-acquired-count, and only failed ones in x-delivery-count.
    const { headers } = this.properties
    // On a first delivery neither belongs to this queue: a dead letter still carries the count of the queue it died in.
    const earlier = this.redelivered ? (headers?.['x-acquired-count'] ?? headers?.['x-delivery-count']) : undefined
    const headersOfOurs = ownHeadersOf(this.properties)
    const isCopy = headersOfOurs !== undefined && isCopyExchange(fields.exchange, queue)
    this.own = isCopy ? readOwnRecord(headersOfOurs, queue) : undefined
    this.exchange = this.own?.exchange ?? fields.exchange
    this.attempts = this.own?.attempts ?? 0
    this.failures = this.own ? this.own.failures : headersOfOurs && readFailures(headersOfOurs, diedIn(headers))
    this.expiresAt = expiryOf(this.properties, this.own)
    const before = this.own?.deliveries
    if (typeof earlier === 'number') this.deliveryCount = earlier + 1
    else if (before !== undefined) this.deliveryCount = this.redelivered ? 2 : 1
    if (before !== undefined && this.deliveryCount !== undefined) this.deliveryCount += before
  }

  /**
   * Whether it is a copy that had expired before it was published, and reached a waiting consumer all the same. RabbitMQ expires
   * it if it is given back.
   */
  get isOverdue(): boolean {
    return !this.redelivered && this.properties.expiration === '0' && this.own?.expiresAt !== undefined
  }

  /** Frees the content of a delivery that is only held, to be given back later. */
  empty(): void {
    this.properties = {}
    this.body = EMPTY_BODY
  }
}

/** The queues in which RabbitMQ dead-lettered the message. */
function diedIn(headers: FieldTable | undefined): string[] {
  const deaths = headers?.['x-death']
  const queueOf = (death: FieldValue) => (death as FieldTable | null)?.['queue']
  return Array.isArray(deaths) ? deaths.map(queueOf).filter((queue) => typeof queue === 'string') : []
}

/** A copy says when the message expires. For any other message the time begins at its delivery: RabbitMQ does not say more. */
function expiryOf({ expiration }: Properties, own: OwnRecord | undefined): number | undefined {
  if (expiration === undefined) return undefined
  const left = wallTime() + Number(expiration)
  return Number.isFinite(left) ? Math.min(left, own?.expiresAt ?? left) : undefined
}
