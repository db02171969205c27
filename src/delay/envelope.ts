// The envelope of a delayed message. RabbitMQ changes headers, `expiration` and routing keys of messages on their way through
// queues, so the original properties travel as bytes: in a header of the gateway, or before the body if they are large.

import { encodeProperties } from '../amqp/wire/amqplib.js'
import { type Copy, keptCopy, restoredCopy, withoutForeignUser } from '../amqp/wire/copy.js'
import { ownHeadersOf } from '../amqp/wire/encoded-properties.js'
import { isRoutingHeader } from '../amqp/wire/encoded-table.js'
import { type FieldTable, TypedValue } from '../amqp/wire/field-table.js'
import type { OutgoingMessage, ReceivedMessage } from '../amqp/wire/message.js'
import { DELAYED_HEADER } from '../amqp/wire/own-headers.js'
import { timestamp } from '../lib/clock.js'
import { UNDELIVERABLE_QUEUE } from './levels.js'

const UNDELIVERABLE_HEADER = 'gateway-undeliverable'
/** All properties of a message have to fit into one frame of 128 KiB, with what RabbitMQ writes about the way through queues. */
const MAX_PROPERTIES_IN_HEADER = 32 * 1024

export interface Delayed {
  vhost: string
  /** The only queue that gets the message, a copy; absent: its exchange routes it. */
  queue?: string | undefined
  message: OutgoingMessage
}

/** A delayed message whose time has come. */
export interface Due extends Delayed {
  message: Copy
}

/** The message as it waits: persistent whatever it was, and without the properties that RabbitMQ would act on. */
export function wrap({ vhost, queue, message }: Delayed, exchange: string, routingKey: string): OutgoingMessage {
  const { properties, body } = message
  const encoded = message.encoded ?? encodeProperties(properties)
  const isLarge = encoded.length > MAX_PROPERTIES_IN_HEADER
  const envelope: FieldTable = {
    vhost,
    ...(queue !== undefined && { queue }),
    exchange: message.exchange,
    routing_key: message.routingKey,
    properties: isLarge ? new TypedValue('int32', encoded.length) : encoded,
  }
  const { contentType, contentEncoding, messageId, timestamp, type, appId } = properties
  const shown = { contentType, contentEncoding, messageId, timestamp, type, appId }
  return {
    exchange,
    routingKey,
    body: isLarge ? Buffer.concat([encoded, body]) : body,
    properties: { ...shown, deliveryMode: 2, headers: { [DELAYED_HEADER]: envelope } },
  }
}

/** The original message; undefined if it is not a delayed one. @param username the only `user_id` that it may have */
export function unwrap({ properties, body }: Pick<ReceivedMessage, 'properties' | 'body'>, username: string): Due | undefined {
  const envelope = ownHeadersOf(properties)?.[DELAYED_HEADER]
  if (!isTable(envelope)) return undefined
  const { vhost, queue, exchange, routing_key: routingKey, properties: kept } = envelope
  if (typeof vhost !== 'string' || typeof exchange !== 'string' || typeof routingKey !== 'string') return undefined
  if (queue !== undefined && typeof queue !== 'string') return undefined
  const encoded = typeof kept === 'number' ? body.subarray(0, kept) : kept
  if (!Buffer.isBuffer(encoded)) return undefined
  try {
    const copy = restoredCopy({ exchange, routingKey, encoded, body: typeof kept === 'number' ? body.subarray(kept) : body })
    return { vhost, queue, message: withoutForeignUser(copy, username) }
  } catch {
    return undefined // somebody else has written it
  }
}

/** The message for the queue of undeliverable messages, without an expiration and with the reason. */
export function undeliverable({ vhost, queue, message }: Due, reason: string): Copy {
  const { exchange, routingKey } = message
  const why: FieldTable = { vhost, exchange, routing_key: routingKey, reason, since: timestamp() }
  if (queue !== undefined) why['queue'] = queue
  const kept = keptCopy(message, isRoutingHeader, { [UNDELIVERABLE_HEADER]: why })
  return { ...kept, exchange: '', routingKey: UNDELIVERABLE_QUEUE }
}

const isTable = (value: unknown): value is FieldTable =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !Buffer.isBuffer(value) && !('!' in value)
