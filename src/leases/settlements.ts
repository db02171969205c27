// How a leased message is settled: as its client asked, or as the retry policy of its queue decides. A message that comes again
// later is acknowledged, and a copy takes its place.

import type { Disposition } from '../amqp/consume/delivery.js'
import { copyOf, isStraight } from '../amqp/wire/copy.js'
import { type Failure, withFailure } from '../amqp/wire/own-headers.js'
import type { Delays } from '../delay/delays.js'
import type { Delayed } from '../delay/envelope.js'
import { timestamp } from '../lib/clock.js'
import type { Metrics } from '../metrics.js'
import { isRetryable, Problem } from '../problems.js'
import type { RetryPolicies } from '../retry/policies.js'
import type { Lease, Settlement } from './table.js'

/** What is different about the copy of a message that comes again. */
export interface CopyChanges {
  /** Failed deliveries to a subscription's endpoint so far; absent: no change. */
  attempts?: number
  /** The id under which a message without an id is delivered to a subscription's endpoint; absent: no change. */
  messageId?: string
  /** Why it comes again. */
  failure?: NewFailure | undefined
}

/** Why a message is given back. */
export type NewFailure = Omit<Failure, 'time'>

/**
 * What a client asks for: a disposition, or that the message comes again after `delay` milliseconds. `failure` is kept on a copy
 * that takes the message's place.
 */
export type SettleRequest = { failure?: NewFailure } & (
  | { action: Disposition }
  | { action: 'later'; delay: number; changes?: CopyChanges }
)

export interface SettlementsOptions {
  metrics: Metrics
  delays: Delays
  policies: RetryPolicies
}

/** Decides how leases are settled. */
export class Settlements {
  readonly #metrics: Metrics
  readonly #delays: Delays
  readonly #policies: RetryPolicies

  constructor({ metrics, delays, policies }: SettlementsOptions) {
    this.#metrics = metrics
    this.#delays = delays
    this.#policies = policies
  }

  /**
   * What to tell RabbitMQ. The queue's retry policy decides about a message that goes back to its queue. If a copy takes the
   * message's place, its publish begins once the queue is known to exist.
   */
  settlementOf(lease: Lease, request: SettleRequest): Settlement {
    const { failure } = request
    if (request.action === 'later') return this.#republish(lease, request.delay, { failure, ...request.changes })
    const asksPolicy = request.action === 'requeue' && !lease.ignoresPolicy
    const decision = asksPolicy ? this.#policies.decide(lease.vhost, lease.queue, lease.delivery) : undefined
    if (decision === undefined) return request.action
    if (typeof decision === 'object') {
      return this.#republish(lease, decision.again, { failure }).then(
        (disposition) => {
          this.#metrics.retried('again')
          return disposition
        },
        (error) => this.#withoutCopy(lease, error),
      )
    }
    return this.#end(decision)
  }

  #end(decision: 'dead_letter' | 'discard'): Disposition {
    // Whether the queue has a dead-letter exchange is not known: the metric says no more than what was done.
    this.#metrics.retried(decision === 'discard' ? 'discard' : 'rejected')
    return decision === 'discard' ? 'ack' : 'reject'
  }

  /** A message that cannot be copied, now or later, is not tried again: its policy's end comes at once. @throws what may pass */
  #withoutCopy(lease: Lease, error: unknown): Disposition {
    if (!isFinal(error)) throw error
    const policy = this.#policies.get(lease.vhost, lease.queue)
    return policy ? this.#end(policy.last) : 'requeue'
  }

  async #republish(lease: Lease, delay: number, changes: CopyChanges): Promise<Disposition> {
    await lease.delivery.channel.look() // a copy for a queue that was deleted would have nowhere to go
    await this.#delays.publish(copyToReturn(lease, changes), delay)
    return 'ack'
  }
}

/** Whether publishing a copy again would fail in the same way. A queue that is gone is another matter. */
const isFinal = (error: unknown): boolean =>
  error instanceof Problem && !isRetryable(error.code) && error.code !== 'lease_gone' && error.code !== 'queue_not_found'

/**
 * The copy, with its counts continued. It goes to this queue alone: queues that `CC` named have had the message, and the
 * client that gives it back may have no right to publish to them.
 */
function copyToReturn({ vhost, queue, delivery }: Lease, { attempts, messageId, failure }: CopyChanges): Delayed {
  const { exchange, own, deliveryCount, redelivered, expiresAt, properties } = delivery
  const record = {
    queue,
    deliveries: deliveryCount ?? (redelivered ? 2 : 1),
    attempts: attempts ?? delivery.attempts,
    expiresAt,
    failures: failure ? withFailure(delivery.failures, { ...failure, time: timestamp() }) : delivery.failures,
    ...(!isStraight(delivery, queue) && { exchange }),
    ...(properties.messageId === undefined && { messageId: messageId ?? own?.messageId }),
  }
  return { vhost, queue, message: copyOf(delivery, { record }) }
}
