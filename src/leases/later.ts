// A leased message that is to come again later: a copy of it takes its place.

import { randomUUID } from 'node:crypto'
import { DELIVERIES_HEADER } from '../amqp/delivery-channel.js'
import type { FieldTable } from '../amqp/field-table.js'
import type { OutgoingMessage } from '../amqp/message.js'
import type { Lease } from './table.js'

/** Sees that a message comes to its queue after so many milliseconds. Resolves when it is safe. @throws Problem */
export type Later = (copy: { vhost: string; message: OutgoingMessage }, delay: number) => Promise<void>

/** How often a message was tried in vain to be delivered to a subscription's endpoint. */
export const ATTEMPTS_HEADER = 'x-gateway-attempts'

/** What is different about the copy. */
export interface Changes {
  /** Failed attempts by now; absent: as many as before. */
  attempts?: number
  /** For a message that has none; absent: a new one. */
  messageId?: string
}

/** The message as it is to come again, counting its deliveries on. */
export function copyOf(
  { vhost, queue, delivery }: Lease,
  { attempts, messageId = randomUUID() }: Changes = {},
): { vhost: string; message: OutgoingMessage } {
  const { properties, body, deliveryCount, redelivered } = delivery
  // CC would have the copy routed to other queues once more.
  const { 'x-delivery-count': _count, 'x-acquired-count': _acquired, CC: _cc, ...headers } = properties.headers ?? {}
  const counted: FieldTable = { ...headers, [DELIVERIES_HEADER]: deliveryCount ?? (redelivered ? 2 : 1) }
  if (attempts !== undefined) counted[ATTEMPTS_HEADER] = attempts
  const copy = { ...properties, headers: counted, messageId: properties.messageId ?? messageId }
  return { vhost, message: { exchange: '', routingKey: queue, properties: copy, body } }
}
