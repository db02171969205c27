// A message on its way to the broker and back, in AMQP's own words.

import type { ConsumeMessage } from './amqplib.js'
import type { FieldTable } from './field-table.js'

/** The basic properties of AMQP 0-9-1 that a client may set. A property that is not set is absent or undefined. */
export interface Properties {
  contentType?: string | undefined
  contentEncoding?: string | undefined
  headers?: FieldTable | undefined
  deliveryMode?: number | undefined
  priority?: number | undefined
  correlationId?: string | undefined
  replyTo?: string | undefined
  expiration?: string | undefined
  messageId?: string | undefined
  /** Seconds since 1970. */
  timestamp?: number | undefined
  type?: string | undefined
  userId?: string | undefined
  appId?: string | undefined
}

/** A message to publish. Its properties have passed the validator, and it always has a message id. */
export interface PublishMessage {
  /** `''` is the default exchange. */
  exchange: string
  routingKey: string
  properties: Properties & { messageId: string }
  body: Buffer
}

/** A message that was delivered. */
export interface ReceivedMessage {
  exchange: string
  routingKey: string
  redelivered: boolean
  properties: Properties
  body: Buffer
}

/**
 * Whether a message goes to a client that waits for a reply: https://www.rabbitmq.com/docs/direct-reply-to. It has no queue,
 * and RabbitMQ does not tell whether it arrives: up to 4.0 it returns such a message and delivers it too, and 4.3 neither
 * returns nor delivers one that nobody waits for.
 */
export const isDirectReply = ({ exchange, routingKey }: { exchange: string; routingKey: string }): boolean =>
  exchange === '' && routingKey.startsWith('amq.rabbitmq.reply-to.')

/** amqplib's form of a delivered message, in ours. */
export function receivedMessage({ fields, properties, content }: ConsumeMessage): ReceivedMessage {
  const { exchange, routingKey, redelivered } = fields
  return { exchange, routingKey, redelivered, properties: properties as Properties, body: content }
}
