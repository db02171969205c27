// Publishing to a queue or an exchange: what the broker's word on a message means to who asked.

import { authorizePublish, withStampedHeaders } from '../access/authorize-publish.js'
import type { Identity } from '../access/identity.js'
import type { Vhosts } from '../amqp/vhost.js'
import type { PublishMessage } from '../amqp/wire/message.js'
import type { Delays } from '../delay/delays.js'
import { Problem } from '../problems.js'

export interface PublishOptions {
  author: Identity
  vhost: string | undefined
  /** false: the answer comes once the message is written, and says nothing of its fate. */
  confirm: boolean
  /** Milliseconds that it is to wait before it comes; undefined: none. */
  delay?: number | undefined
  /** What it means that no queue takes it: a missing queue, an unroutable message, or nothing bad. */
  unrouted: 'queue_not_found' | 'unroutable' | 'accept'
}

export interface Receipt {
  message_id: string
  /** Absent where nothing was waited for. */
  routed?: boolean
}

/**
 * Publishes one message, checked before.
 * @throws Problem as Publisher.publish(), queue_not_found, unroutable, access_refused
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
  if (delay !== undefined) {
    checkDelay(author, message)
    if (unrouted === 'queue_not_found') await vhost.topology.lookUpQueue(message.routingKey)
    else if (message.exchange !== '') await vhost.topology.lookUpExchange(message.exchange)
    const waiting = await delays.wrap({ vhost: vhost.name, message }, delay)
    const { publisher } = vhosts.default
    if (confirm && !(await publisher.publish(waiting))) throw delays.lost()
    if (!confirm) await publisher.publishUnconfirmed(waiting)
    return { message_id: messageId, ...(confirm && { routed: true }) }
  }
  // A copy that CC or BCC routes would hide from `mandatory` that the queue itself is missing.
  if (unrouted === 'queue_not_found' && headers && (headers['CC'] || headers['BCC']))
    await vhost.topology.lookUpQueue(message.routingKey)
  if (!confirm) {
    await vhost.publisher.publishUnconfirmed(message)
    return { message_id: messageId }
  }
  const routed = await vhost.publisher.publish(message)
  if (!routed && unrouted === 'queue_not_found') {
    throw new Problem(
      'queue_not_found',
      `There is no queue '${message.routingKey}' in vhost '${vhost.name}'. The message was not stored.`,
    )
  }
  if (!routed && unrouted === 'unroutable') {
    throw new Problem('unroutable', `No queue is bound to exchange '${message.exchange}' for that message. It was not stored.`)
  }
  return { message_id: messageId, routed }
}

/** @throws Problem invalid_message, access_refused */
export function checkDelay({ login }: Identity, { properties }: PublishMessage): void {
  // It waits, and is delivered, as the gateway's own user, who may do more.
  if (login) throw new Problem('access_refused', 'Delayed messages are not for users of RabbitMQ: it could not decide on them.')
  if (properties.expiration !== undefined)
    throw new Problem('invalid_message', 'A message has a delay or an expiration, not both: it would expire while it waits.', {
      errors: [{ pointer: '/header/amqp-expiration', detail: 'is not for a message with a delay' }],
    })
}
