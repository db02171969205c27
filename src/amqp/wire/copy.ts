// Copies: messages that the gateway publishes again. A copy is the message, bit for bit, but for the headers that the gateway
// keeps on it, and those that RabbitMQ writes at each delivery.

import { encodeFields, encodeProperties } from './amqplib.js'
import { decodeProperties, encodedOf, joinProperties, splitProperties, textPart } from './encoded-properties.js'
import { EMPTY_TABLE, editTable, fieldBytes } from './encoded-table.js'
import { type FieldTable, TypedValue } from './field-table.js'
import type { EncodedProperties, OutgoingMessage, ReceivedMessage } from './message.js'
import { isOwnHeader, type OwnRecord, ownHeaders } from './own-headers.js'

/** A message with its properties as bytes. */
export type Copy = OutgoingMessage & { encoded: EncodedProperties }

/** How RabbitMQ counts the deliveries of a message, in its present queue. */
const isDeliveryCount = (name: string): boolean => name === 'x-delivery-count' || name === 'x-acquired-count'

export interface CopyOptions {
  /** What the gateway keeps on the copy; absent: nothing. */
  record?: OwnRecord | undefined
  /** Further headers that the copy does not have, by name. */
  removes?: (name: string) => boolean
  /** The only `user_id` that RabbitMQ takes from the gateway; absent: it is looked at later. */
  username?: string
}

/** A copy of a delivered message. It has the message's exchange and routing key. */
export function copyOf(message: ReceivedMessage, { record, removes = () => false, username }: CopyOptions = {}): Copy {
  const { exchange, routingKey, properties, body } = message
  const parts = splitProperties(encodedOf(properties) ?? encodeProperties(properties))
  const isGone = (name: string) => isOwnHeader(name) || isDeliveryCount(name) || removes(name)
  const more = record ? encodeFields(ownHeaders(record)) : Buffer.alloc(0)
  const headers = editTable(parts.headers ?? EMPTY_TABLE, isGone, more)
  // RabbitMQ makes a table for its own headers where the message had none.
  if (fieldBytes(headers).length > 0) parts.headers = headers
  else if (parts.headers && parts.headers.length > EMPTY_TABLE.length) delete parts.headers
  if (username !== undefined && properties.userId !== username) delete parts.userId
  return restoredCopy({ exchange, routingKey, body, encoded: joinProperties(parts) })
}

/** A copy with its properties decoded. */
export const restoredCopy = (copy: Omit<Copy, 'properties'>): Copy => ({ ...copy, properties: decodeProperties(copy.encoded) })

/** The copy without a `user_id` that is not this one: RabbitMQ closes the channel over it. */
export function withoutForeignUser(copy: Copy, username: string): Copy {
  if (copy.properties.userId === undefined || copy.properties.userId === username) return copy
  const { userId: _, ...parts } = splitProperties(copy.encoded)
  return restoredCopy({ ...copy, encoded: joinProperties(parts) })
}

/** The copy with this time to live, in milliseconds. */
export function withExpiration(copy: Copy, milliseconds: number): Copy {
  const parts = { ...splitProperties(copy.encoded), expiration: textPart(String(milliseconds)) }
  return restoredCopy({ ...copy, encoded: joinProperties(parts) })
}

/** The copy as a persistent message without an expiration, with some of its headers removed and others added. */
export function keptCopy(copy: Copy, removes: (name: string) => boolean, more: FieldTable): Copy {
  const { expiration: _, headers, ...parts } = splitProperties(copy.encoded)
  const edited = editTable(headers ?? EMPTY_TABLE, removes, encodeFields(more))
  const encoded = joinProperties({ ...parts, headers: edited, deliveryMode: Buffer.of(2) })
  return restoredCopy({ ...copy, encoded })
}

/** The copy without some of its headers. */
export function withoutHeaders(copy: Copy, removes: (name: string) => boolean): Copy {
  const { headers, ...parts } = splitProperties(copy.encoded)
  if (!headers) return copy
  const edited = editTable(headers, removes, Buffer.alloc(0))
  return restoredCopy({ ...copy, encoded: joinProperties({ ...parts, headers: edited }) })
}

/**
 * Whether the message was published straight to the queue, so that a copy through the default exchange has its routing key and
 * reaches no other queue.
 */
export function isStraight({ exchange, routingKey, properties }: Omit<OutgoingMessage, 'body'>, queue: string): boolean {
  const { headers } = properties
  // Unreadable headers may say anything.
  const isReadable = !(headers instanceof TypedValue)
  return exchange === '' && routingKey === queue && isReadable && headers?.['CC'] === undefined && headers?.['BCC'] === undefined
}
