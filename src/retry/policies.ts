// Retry policies: what becomes of a message that was given back, or whose lease ran out, by queue. They are the same at every
// instance, and kept in RabbitMQ alone.

import type { Delivery } from '../amqp/consume/delivery.js'
import { type Definitions, definitionKey } from '../definitions/definitions.js'
import type { RetryDecision } from '../leases/settlements.js'
import { type Backoff, waitAfter } from '../lib/backoff.js'

export interface RetryPolicy {
  /** After how many deliveries it is not tried again; undefined: it always is. */
  maxDeliveries?: number
  backoff: Backoff
  /** What becomes of it then: to the dead-letter exchange of the queue, or nothing. */
  last: 'dead_letter' | 'discard'
}

const RETRY_POLICY_KIND = 'retry-policy'

export class RetryPolicies {
  readonly #definitions: Definitions

  constructor(definitions: Definitions) {
    this.#definitions = definitions
  }

  get(vhost: string, queue: string): RetryPolicy | undefined {
    return this.#definitions.get<RetryPolicy>(RETRY_POLICY_KIND, definitionKey(vhost, queue))?.value
  }

  /** @returns whether there was none before. @throws Problem as Definitions.put() */
  async put(vhost: string, queue: string, policy: RetryPolicy): Promise<boolean> {
    const isNew = this.get(vhost, queue) === undefined
    await this.#definitions.put(RETRY_POLICY_KIND, definitionKey(vhost, queue), policy)
    return isNew
  }

  /** @throws Problem as Definitions.delete() */
  async delete(vhost: string, queue: string): Promise<void> {
    if (this.get(vhost, queue)) await this.#definitions.delete(RETRY_POLICY_KIND, definitionKey(vhost, queue))
  }

  get count(): number {
    return this.#definitions.list(RETRY_POLICY_KIND).length
  }

  /** What the policy of its queue says of a delivery that comes back; undefined where there is none. */
  decide(vhost: string, queue: string, { deliveryCount, redelivered }: Delivery): RetryDecision | undefined {
    const policy = this.get(vhost, queue)
    if (!policy) return undefined
    const deliveries = deliveryCount ?? (redelivered ? 2 : 1)
    if (policy.maxDeliveries !== undefined && deliveries >= policy.maxDeliveries) return policy.last
    return { again: waitAfter(deliveries, policy.backoff) }
  }
}
