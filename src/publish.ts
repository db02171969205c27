// Publishing to a queue or an exchange: what the broker's word on a message means to who asked.

import type { Identity } from './access/identity.js'
import { admit } from './access/publishing.js'
import type { OutgoingMessage } from './amqp/message.js'
import type { Vhosts } from './amqp/vhost.js'
import { Problem } from './problems.js'

export interface PublishOptions {
  author: Identity
  vhost: string | undefined
  /** false: the answer comes once the message is written, and says nothing of its fate. */
  confirm: boolean
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
  vhosts: Vhosts,
  message: OutgoingMessage,
  { author, vhost: name, confirm, unrouted }: PublishOptions,
): Promise<Receipt> {
  admit(author, name ?? vhosts.defaultName, message)
  const vhost = await vhosts.get(name, author.login)
  await vhost.vetExchange(message.exchange)
  const { headers, messageId } = message.properties
  // A copy that CC or BCC routes would hide from `mandatory` that the queue itself is missing.
  if (unrouted === 'queue_not_found' && headers && (headers['CC'] || headers['BCC']))
    await vhost.topology.queue(message.routingKey)
  if (!confirm) {
    await vhost.publisher.send(message)
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
