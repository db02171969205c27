// The type of a queue. AMQP has no question for it, but a consumer with an argument that only streams know is refused by every
// other queue with an error that names the queue's type, before it could take a message.

import { ExpiringMap } from '../../lib/expiring-map.js'
import { Problem } from '../../problems.js'
import type { Channel } from '../wire/amqplib.js'

export type QueueType = 'classic' | 'quorum' | 'stream' | 'other'

const REMEMBER_TYPE_MS = 10 * 60_000
const MAX_REMEMBERED_TYPES = 10_000

/** The types of a vhost's queues, remembered for ten minutes. */
export class QueueTypes {
  readonly #ask: (queue: string, work: (channel: Channel) => Promise<unknown>) => Promise<unknown>
  readonly #check: (queue: string) => Promise<unknown>
  readonly #known = new ExpiringMap<Promise<QueueType | undefined>>(MAX_REMEMBERED_TYPES, REMEMBER_TYPE_MS)

  /**
   * @param ask runs its work on a scratch channel, which the answer mostly closes; rejects with a Problem
   * @param check rejects if the queue does not exist
   */
  constructor(
    ask: (queue: string, work: (channel: Channel) => Promise<unknown>) => Promise<unknown>,
    check: (queue: string) => Promise<unknown>,
  ) {
    this.#ask = ask
    this.#check = check
  }

  /** The type, no more than ten minutes old; undefined if RabbitMQ could not tell. Never rejects. */
  recentType(queue: string): Promise<QueueType | undefined> {
    const known = this.#known.get(queue)
    if (known) return known
    const type = this.currentType(queue).catch(() => {
      if (this.#known.get(queue) === type) this.forget(queue) // it may be declared in the next moment
      return undefined
    })
    this.#known.set(queue, type)
    return type
  }

  /** Forgets the type of a queue that is declared or deleted. */
  forget(queue: string): void {
    this.#known.delete(queue)
  }

  /** Asks RabbitMQ for the type. @throws Problem queue_not_found, access_refused, broker_unavailable, broker_timeout */
  async currentType(queue: string): Promise<QueueType> {
    try {
      await this.#ask(queue, async (channel) => {
        await channel.prefetch(1)
        await channel.consume(queue, () => undefined, { arguments: { 'x-stream-offset': 'next' } })
      })
      return 'stream'
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== 'invalid_request') throw error
      const type = /queue type rabbit_(\w+)_queue/.exec(error.message)
      if (!type) {
        // RabbitMQ failed to write its refusal. A passive declare tells whether the queue exists.
        await this.#check(queue)
        return 'other'
      }
      return type[1] === 'classic' || type[1] === 'quorum' ? type[1] : 'other'
    }
  }
}
