// What RabbitMQ is told of a leased message that its client settles, or whose lease ran out: what was asked for, or what the
// retry policy of its queue makes of it. A message that is to come again later is acknowledged, and a copy takes its place.

import { randomUUID } from 'node:crypto'
import { ATTEMPTS_HEADER, DELIVERIES_HEADER, type Delivery, type Disposition, QUEUE_HEADER } from '../amqp/consume/delivery.js'
import type { FieldTable } from '../amqp/wire/field-table.js'
import type { PublishMessage } from '../amqp/wire/message.js'
import type { Metrics } from '../metrics.js'
import type { Lease, Settlement } from './table.js'

/** Sees that a message comes to its queue after so many milliseconds. Resolves when it is safe. @throws Problem */
export type RepublishLater = (copy: { vhost: string; message: PublishMessage }, delay: number) => Promise<void>

/** What becomes of a message that comes back: again after so many milliseconds, to the dead letters, or nothing. */
export type RetryDecision = { again: number } | 'dead_letter' | 'discard'

/** What is different about the copy of a message that is to come again. */
export interface CopyChanges {
  /** Failed attempts by now; absent: as many as before. */
  attempts?: number
  /** For a message that has none; absent: a new one. */
  messageId?: string
}

export interface SettlementsOptions {
  metrics: Metrics
  republishLater: RepublishLater
  /** What the policy of its queue makes of a message that comes back; undefined where there is none. */
  decideRetry: (vhost: string, queue: string, delivery: Delivery) => RetryDecision | undefined
}

export class Settlements {
  readonly #options: SettlementsOptions

  constructor(options: SettlementsOptions) {
    this.#options = options
  }

  /** Of a message that goes back to its queue the policy decides. A copy, where there is one, is on its way when this returns. */
  settlementOf(
    lease: Lease,
    wish: { verdict: Disposition } | { verdict: 'later'; delay: number; changes?: CopyChanges },
  ): Settlement {
    if (wish.verdict === 'later') return this.#republish(lease, wish.delay, wish.changes)
    const { decideRetry: fate, metrics } = this.#options
    const decided = wish.verdict === 'requeue' ? fate(lease.vhost, lease.queue, lease.delivery) : undefined
    if (decided === undefined) return { verdict: wish.verdict }
    if (typeof decided === 'object') {
      metrics.retried('again')
      return this.#republish(lease, decided.again)
    }
    metrics.retried(decided)
    return { verdict: decided === 'discard' ? 'ack' : 'reject' }
  }

  #republish(lease: Lease, delay: number, changes?: CopyChanges): Settlement {
    return { verdict: 'ack', copied: this.#options.republishLater(copyOf(lease, changes), delay) }
  }
}

/**
 * The message as it is to come again, counting its deliveries on: to this queue alone. The others that `CC` named have had it,
 * and whoever gives it back may have no right to them.
 */
function copyOf(
  { vhost, queue, delivery }: Lease,
  { attempts, messageId = randomUUID() }: CopyChanges = {},
): { vhost: string; message: PublishMessage } {
  const { properties, body, deliveryCount, redelivered } = delivery
  const { 'x-delivery-count': _count, 'x-acquired-count': _acquired, CC: _cc, BCC: _bcc, ...headers } = properties.headers ?? {}
  const counted: FieldTable = {
    ...headers,
    [QUEUE_HEADER]: queue,
    [DELIVERIES_HEADER]: deliveryCount ?? (redelivered ? 2 : 1),
    [ATTEMPTS_HEADER]: attempts ?? delivery.attempts,
  }
  if (counted[ATTEMPTS_HEADER] === 0) delete counted[ATTEMPTS_HEADER]
  const copy = { ...properties, headers: counted, messageId: properties.messageId ?? messageId }
  return { vhost, message: { exchange: '', routingKey: queue, properties: copy, body } }
}
