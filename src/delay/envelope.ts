// The envelope of a delayed message. RabbitMQ changes headers, `expiration` and routing keys of messages on their way through
// queues, so the original ones travel in a header of the gateway.

import type { FieldTable } from '../amqp/wire/field-table.js'
import type { Properties, PublishMessage } from '../amqp/wire/message.js'
import { DELAYED_HEADER } from '../amqp/wire/reserved.js'
import { timestamp } from '../lib/clock.js'
import { UNDELIVERABLE_QUEUE } from './levels.js'

const UNDELIVERABLE_HEADER = 'gateway-undeliverable'

export interface Delayed {
  vhost: string
  message: PublishMessage
}

/** The message as it waits: persistent whatever it was, and without the properties that RabbitMQ would act on. */
export function wrap({ vhost, message }: Delayed, exchange: string, routingKey: string): PublishMessage {
  const { headers, expiration, priority, userId, deliveryMode, ...rest } = message.properties
  const kept = Object.entries({ headers, expiration, priority, userId, deliveryMode }).filter(([, value]) => value !== undefined)
  const { exchange: toExchange, routingKey: toKey } = message
  const envelope = { vhost, exchange: toExchange, routing_key: toKey, properties: Object.fromEntries(kept) } as FieldTable
  return {
    exchange,
    routingKey,
    body: message.body,
    properties: { ...rest, deliveryMode: 2, headers: { [DELAYED_HEADER]: envelope } },
  }
}

/** The original message; undefined if it is not a delayed one. @param username the only `user_id` that it may have */
export function unwrap(properties: Properties, body: Buffer, username: string): Delayed | undefined {
  const envelope = properties.headers?.[DELAYED_HEADER]
  if (!isTable(envelope)) return undefined
  const { vhost, exchange, routing_key: routingKey, properties: kept } = envelope
  if (typeof vhost !== 'string' || typeof exchange !== 'string' || typeof routingKey !== 'string' || !isTable(kept))
    return undefined
  const { headers: _, ...rest } = properties
  const all = { ...rest, deliveryMode: undefined, ...kept } as PublishMessage['properties']
  if (all.userId !== username) delete all.userId
  return { vhost, message: { exchange, routingKey, body, properties: { ...all, messageId: all.messageId as string } } }
}

/** The message for the queue of undeliverable messages, without an expiration and with the reason. */
export function undeliverable({ vhost, message }: Delayed, reason: string): PublishMessage {
  const { exchange, routingKey, properties, body } = message
  const { expiration: _, headers, ...rest } = properties
  const { CC: _cc, BCC: _bcc, ...kept } = headers ?? {}
  const why: FieldTable = { vhost, exchange, routing_key: routingKey, reason, since: timestamp() }
  const withReason = { ...kept, [UNDELIVERABLE_HEADER]: why }
  return { exchange: '', routingKey: UNDELIVERABLE_QUEUE, body, properties: { ...rest, deliveryMode: 2, headers: withReason } }
}

const isTable = (value: unknown): value is FieldTable =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !Buffer.isBuffer(value) && !('!' in value)
