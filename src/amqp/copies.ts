// Publishes copies into one queue, with the routing keys that the messages had. Only a fanout exchange that is bound to this
// queue alone does that: receivers see the key, and RabbitMQ routes a later dead letter by it
// (docs/decisions/0015-a-copy-is-the-message.md).

import { wallTime } from '../lib/clock.js'
import { ExpiringMap } from '../lib/expiring-map.js'
import type { Log } from '../lib/log.js'
import { Problem, type ProblemCode } from '../problems.js'
import type { Publisher } from './publish/publisher.js'
import type { Topology } from './topology.js'
import { type Copy, isStraight, withExpiration, withoutHeaders } from './wire/copy.js'
import { breaksErrorText } from './wire/crash-guards.js'
import { ownHeadersOf } from './wire/encoded-properties.js'
import { isRoutingHeader } from './wire/encoded-table.js'
import { readOwnRecord } from './wire/own-headers.js'
import { copyExchange } from './wire/reserved.js'

const MAX_KNOWN_EXCHANGES = 1000
/** After this time an exchange is declared again, and a refusal is forgotten. */
const KNOWN_FOR_MS = 60_000

/** Why a queue has no exchange of its own: the gateway's user may not declare or bind it, or somebody else has declared it. */
const REFUSALS: readonly ProblemCode[] = ['access_refused', 'precondition_failed', 'resource_locked']

export interface CopiesOptions {
  log: Log
  vhost: string
  publisher: Publisher
  topology: Topology
}

/** Publishes copies in one vhost. */
export class Copies {
  readonly #options: CopiesOptions
  /** By queue; undefined: there can be none. */
  readonly #exchanges = new ExpiringMap<Promise<string | undefined>>(MAX_KNOWN_EXCHANGES, KNOWN_FOR_MS)

  constructor(options: CopiesOptions) {
    this.#options = options
  }

  /**
   * Publishes a copy into a queue, and into no other. What remains of its time to live begins now.
   * @returns whether the queue took it; false if it does not exist
   * @throws Problem as `Publisher.publish()`
   */
  async publish(queue: string, copy: Copy): Promise<boolean> {
    const current = withTimeLeft(copy, queue)
    if (isStraight(copy, queue)) return this.#publishStraight(queue, current)
    try {
      return (await this.#publishWithKey(queue, current)) || (await this.#publishWithKey(queue, current))
    } catch (error) {
      if (error instanceof Problem && error.code === 'queue_not_found') return false
      throw error
    }
  }

  #publishStraight(queue: string, copy: Copy): Promise<boolean> {
    return this.#options.publisher.publish({ ...copy, exchange: '', routingKey: queue })
  }

  /** @returns false if the exchange is not there, or not bound: the next call declares it again */
  async #publishWithKey(queue: string, copy: Copy): Promise<boolean> {
    const exchange = await this.#exchangeOf(queue)
    if (exchange === undefined) return this.#publishStraight(queue, withoutHeaders(copy, isRoutingHeader))
    try {
      if (await this.#options.publisher.publish({ ...copy, exchange })) return true
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== 'exchange_not_found') throw error
    }
    this.#exchanges.delete(queue)
    return false
  }

  #exchangeOf(queue: string): Promise<string | undefined> {
    const known = this.#exchanges.get(queue)
    if (known) return known
    const declaring = this.#declare(queue)
    this.#exchanges.set(queue, declaring)
    declaring.catch(() => this.#exchanges.delete(queue))
    return declaring
  }

  /**
   * Declares the queue's exchange and binds it. RabbitMQ deletes it together with the queue.
   * @returns its name; undefined if the queue cannot have one
   * @throws Problem queue_not_found, broker_unavailable, broker_timeout
   */
  async #declare(queue: string): Promise<string | undefined> {
    const { topology, vhost, log } = this.#options
    const exchange = copyExchange(queue)
    try {
      if (breaksErrorText(vhost, queue)) await topology.lookUpQueue(queue)
      await topology.setUp('the exchange of copies', async (channel) => {
        await channel.assertExchange(exchange, 'fanout', { durable: true, autoDelete: true })
        await channel.bindQueue(queue, exchange, '')
      })
      return exchange
    } catch (error) {
      // An exchange that was never bound is not deleted by itself.
      await topology.deleteExchange(exchange, { ifUnused: true }).catch(() => undefined)
      if (!(error instanceof Problem) || !REFUSALS.includes(error.code)) throw error
      log.warn({ vhost, queue, exchange, reason: error.message }, 'copies lose their routing keys: the exchange is refused')
      return undefined
    }
  }
}

/** The copy with the time that it has left to live. A forged record harms only its author: time is only taken off. */
function withTimeLeft(copy: Copy, queue: string): Copy {
  const { expiration } = copy.properties
  const own = ownHeadersOf(copy.properties)
  const expiresAt = own && readOwnRecord(own, queue)?.expiresAt
  if (expiration === undefined || expiresAt === undefined) return copy
  return withExpiration(copy, Math.max(0, Math.min(Number(expiration), expiresAt - wallTime())))
}
