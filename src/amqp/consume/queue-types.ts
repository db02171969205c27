// What kind of queue a name stands for. AMQP has no question for it, but a consumer with an argument that only streams know
// is refused by every other queue with its type's name, before it could take a message.

import { Problem } from '../../problems.js'
import type { Channel } from '../wire/amqplib.js'

export type QueueType = 'classic' | 'quorum' | 'stream' | 'other'

const REMEMBER_TYPE_MS = 10 * 60_000
const MAX_REMEMBERED_TYPES = 10_000

export class QueueTypes {
  readonly #ask: (queue: string, work: (channel: Channel) => Promise<unknown>) => Promise<unknown>
  readonly #check: (queue: string) => Promise<unknown>
  readonly #known = new Map<string, { type: Promise<QueueType | undefined>; at: number }>()

  /**
   * @param ask runs its work on a scratch channel, since the answer mostly closes the channel; rejects with problems
   * @param check rejects where there is no such queue
   */
  constructor(
    ask: (queue: string, work: (channel: Channel) => Promise<unknown>) => Promise<unknown>,
    check: (queue: string) => Promise<unknown>,
  ) {
    this.#ask = ask
    this.#check = check
  }

  /** The type, as it was within the last ten minutes; undefined where the broker didn't say. */
  recentType(queue: string): Promise<QueueType | undefined> {
    const known = this.#known.get(queue)
    if (known && Date.now() - known.at < REMEMBER_TYPE_MS) return known.type
    const type = this.currentType(queue).catch(() => undefined)
    this.#known.delete(queue)
    this.#known.set(queue, { type, at: Date.now() })
    if (this.#known.size > MAX_REMEMBERED_TYPES) this.#known.delete(this.#known.keys().next().value!)
    return type
  }

  forget(queue: string): void {
    this.#known.delete(queue)
  }

  /** The type as it is now. @throws Problem queue_not_found, access_refused, broker_unavailable… */
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
        // It broke down over the words of its refusal. That it is there is known by asking for it alone.
        await this.#check(queue)
        return 'other'
      }
      return type[1] === 'classic' || type[1] === 'quorum' ? type[1] : 'other'
    }
  }
}
