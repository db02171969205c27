// Publishing one message to a queue or an exchange: what RabbitMQ's answer means to the caller.

import { authorizePublish, withStampedHeaders } from '../access/authorize-publish.js'
import type { Identity } from '../access/identity.js'
import type { Vhosts } from '../amqp/vhosts.js'
import { unroutedProblem } from '../amqp/wire/errors.js'
import { isDirectReply, type PublishMessage } from '../amqp/wire/message.js'
import type { Delays } from '../delay/delays.js'
import { Problem } from '../problems.js'

export interface PublishOptions {
  author: Identity
  vhost: string | undefined
  /** false: resolve once the message is written, without waiting for its confirm. */
  confirm: boolean
  /** Milliseconds until it is delivered; undefined: at once. */
  delay?: number | undefined
  /** What it means if no queue takes it: a missing queue, an unroutable message, or no problem. */
  unrouted: 'queue_not_found' | 'unroutable' | 'accept'
}

export interface Receipt {
  message_id: string
  /** Absent if the confirm was not waited for, or RabbitMQ does not tell, see `knownRouting()`. */
  routed?: boolean
  /** Why the message is probably not what its publisher meant. */
  warning?: string
}

/**
 * Publishes one message, whose properties have passed the validator. Resolves after RabbitMQ's confirm, or with `confirm: false`
 * once the message is written.
 * @throws Problem queue_not_found, exchange_not_found, unroutable, vhost_not_found, access_refused, invalid_message,
 *   message_too_large, publish_rejected, publish_refused, broker_unavailable, broker_blocked, overloaded: not stored;
 *   publish_outcome_unknown, broker_timeout: unknown
 */
export async function publish(
  { vhosts, delays }: { vhosts: Vhosts; delays: Delays },
  unstamped: PublishMessage,
  { author, vhost: name, confirm, delay, unrouted }: PublishOptions,
): Promise<Receipt> {
  authorizePublish(author.rights, name ?? vhosts.defaultName, unstamped)
  const message = withStampedHeaders(author, unstamped)
  const vhost = await vhosts.get(name, author.login)
  await vhost.ensureExchangeExists(message.exchange)
  const { headers, messageId } = message.properties
  const isReply = isDirectReply(message)
  if (delay !== undefined) {
    checkDelay(author, message)
    if (unrouted === 'queue_not_found' && !isReply) await vhost.topology.lookUpQueue(message.routingKey)
    else if (message.exchange !== '') await vhost.topology.lookUpExchange(message.exchange)
    const delayed = { vhost: vhost.name, message }
    if (confirm) await delays.publish(delayed, delay)
    else await delays.publishUnconfirmed(delayed, delay)
    return { message_id: messageId, ...(confirm && !isReply && { routed: true }) }
  }
  // If CC or BCC routes a copy, `mandatory` does not show that the queue itself is missing.
  if (unrouted === 'queue_not_found' && !isReply && headers && (headers['CC'] || headers['BCC']))
    await vhost.topology.lookUpQueue(message.routingKey)
  if (!confirm) {
    await vhost.publisher.publishUnconfirmed(message)
    return { message_id: messageId }
  }
  const routed = knownRouting(message, await vhost.publisher.publish(message))
  if (routed === false && unrouted !== 'accept') throw unroutedProblem(message, vhost.name)
  return { message_id: messageId, ...(routed !== undefined && { routed }) }
}

/**
 * Whether a queue took a confirmed message; undefined if that is not known: of a direct reply, and of a message with the header
 * `x-delay` that an exchange returned, since one of the plugin rabbitmq-delayed-message-exchange returns what it delays.
 * @param routed whether RabbitMQ did not return it
 */
export function knownRouting(message: PublishMessage, routed: boolean): boolean | undefined {
  const isDelayed = message.exchange !== '' && message.properties.headers?.['x-delay'] !== undefined
  return isDirectReply(message) || (isDelayed && !routed) ? undefined : routed
}

/** Whether the author may delay this message. @throws Problem invalid_message, access_refused */
export function checkDelay({ login }: Identity, { properties }: PublishMessage): void {
  // The gateway's own user publishes it later, and may do more than this one.
  if (login) throw new Problem('access_refused', 'Delayed messages are not for users of RabbitMQ: it could not decide on them.')
  if (properties.expiration !== undefined)
    throw new Problem('invalid_message', 'A message has a delay or an expiration, not both: it would expire while it waits.', {
      errors: [{ pointer: '/header/amqp-expiration', detail: 'is not for a message with a delay' }],
    })
}
