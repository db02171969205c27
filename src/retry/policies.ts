// Retry policies: what happens to a message that was given back, or whose lease expired, by queue. They are definitions, so that
// every instance has the same ones, and RabbitMQ keeps them.

import type { Delivery } from '../amqp/consume/delivery.js'
import { type Definitions, definitionKey } from '../definitions/definitions.js'
import { type Backoff, waitAfter } from '../lib/backoff.js'

export interface RetryPolicy {
  /** After this many deliveries a message is not tried again; undefined: it is always tried again. */
  maxDeliveries?: number
  backoff: Backoff
  /** What happens then: the message is rejected to the queue's dead-letter exchange, or dropped. */
  last: 'dead_letter' | 'discard'
}

/** What a policy decides: deliver again after some milliseconds, dead-letter, or drop. */
export type RetryDecision = { again: number } | 'dead_letter' | 'discard'

const RETRY_POLICY_KIND = 'retry-policy'

/** The retry policies of all queues. */
export class RetryPolicies {
  readonly #definitions: Definitions

  constructor(definitions: Definitions) {
    this.#definitions = definitions
  }

  get(vhost: string, queue: string): RetryPolicy | undefined {
    return this.#definitions.get<RetryPolicy>(RETRY_POLICY_KIND, definitionKey(vhost, queue))?.value
  }

  /**
   * Sets the policy of a queue. Resolves when RabbitMQ has it and it is in force at this instance.
   * @returns whether the queue had none
   * @throws Problem broker_unavailable, broker_blocked, access_refused, overloaded: not set; broker_timeout: unknown
   */
  async put(vhost: string, queue: string, policy: RetryPolicy): Promise<boolean> {
    const isNew = this.get(vhost, queue) === undefined
    await this.#definitions.put(RETRY_POLICY_KIND, definitionKey(vhost, queue), policy)
    return isNew
  }

  /** Removes the policy of a queue, if it has one. @throws Problem broker_unavailable, broker_blocked, broker_timeout */
  async delete(vhost: string, queue: string): Promise<void> {
    if (this.get(vhost, queue)) await this.#definitions.delete(RETRY_POLICY_KIND, definitionKey(vhost, queue))
  }

  /** How many queues have a policy. */
  get count(): number {
    return this.#definitions.list(RETRY_POLICY_KIND).length
  }

  /** What the queue's policy decides about a delivery that comes back; undefined if the queue has no policy. */
  decide(vhost: string, queue: string, { deliveryCount, redelivered }: Delivery): RetryDecision | undefined {
    const policy = this.get(vhost, queue)
    if (!policy) return undefined
    const deliveries = deliveryCount ?? (redelivered ? 2 : 1)
    if (policy.maxDeliveries !== undefined && deliveries >= policy.maxDeliveries) return policy.last
    return { again: waitAfter(deliveries, policy.backoff) }
  }
}
