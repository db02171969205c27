// A message on its way to the broker and back, in AMQP's own words.

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
  /** Seconds since 1970. A bigint only beyond 2^53. */
  timestamp?: number | bigint | undefined
  type?: string | undefined
  userId?: string | undefined
  appId?: string | undefined
  /** The bytes of those texts that are not UTF-8. The property itself then has U+FFFD in it. */
  exact?: { [Name in TextProperty]?: Buffer } | undefined
}

/** The properties that are texts of up to 255 bytes. */
export type TextProperty =
  | 'contentType'
  | 'contentEncoding'
  | 'correlationId'
  | 'replyTo'
  | 'expiration'
  | 'messageId'
  | 'type'
  | 'userId'
  | 'appId'

/** The flags of a message's properties and the properties that are set, as in its content header (AMQP 0-9-1, 4.2.6.1). */
export type EncodedProperties = Buffer

/** A message on its way to RabbitMQ. */
export interface OutgoingMessage {
  /** `''` is the default exchange. */
  exchange: string
  routingKey: string
  properties: Properties
  /** The properties as they go on the wire, in the place of the decoded ones. */
  encoded?: EncodedProperties | undefined
  body: Buffer
}

/** A client's message. Its properties have passed the validator, and it always has a message id. */
export interface PublishMessage extends OutgoingMessage {
  properties: Properties & { messageId: string }
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

interface DeliveredMessage {
  fields: Pick<ReceivedMessage, 'exchange' | 'routingKey' | 'redelivered'>
  properties: object
  content: Buffer
}

/** amqplib's form of a delivered message, in ours. */
export function receivedMessage({ fields, properties, content }: DeliveredMessage): ReceivedMessage {
  const { exchange, routingKey, redelivered } = fields
  return { exchange, routingKey, redelivered, properties: properties as Properties, body: content }
}
