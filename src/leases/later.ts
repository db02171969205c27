// A leased message that is to come again later: a copy of it takes its place.

import { DELIVERIES_HEADER } from '../amqp/delivery-channel.js'
import type { OutgoingMessage } from '../amqp/message.js'
import type { Lease } from './table.js'

/** Sees that a message comes to its queue after so many milliseconds. Resolves when it is safe. @throws Problem */
export type Later = (copy: { vhost: string; message: OutgoingMessage }, delay: number) => Promise<void>

/**
 * The message as it is to come again, counting its deliveries on: to this queue alone. The others that `CC` named have had it,
 * and whoever gives it back may have no right to them.
 */
export function copyOf({ vhost, queue, delivery }: Lease): { vhost: string; message: OutgoingMessage } {
  const { properties, body, deliveryCount, redelivered } = delivery
  const { 'x-delivery-count': _count, 'x-acquired-count': _acquired, CC: _cc, BCC: _bcc, ...headers } = properties.headers ?? {}
  const counted = { ...headers, [DELIVERIES_HEADER]: deliveryCount ?? (redelivered ? 2 : 1) }
  const copy = { ...properties, headers: counted, messageId: properties.messageId as string }
  return { vhost, message: { exchange: '', routingKey: queue, properties: copy, body } }
}
