// Delayed messages: on their way into the queues where they wait, and out of them to where they were meant to go. All of them
// wait in the gateway's own vhost, since every instance has that open, and each of them delivers what is due.

import type { Delivery } from '../amqp/consume/delivery.js'
import type { DeliveryChannel } from '../amqp/consume/delivery-channel.js'
import type { Vhosts } from '../amqp/vhost.js'
import type { PublishMessage } from '../amqp/wire/message.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { catalogue, isRetryable, Problem, type ProblemCode } from '../problems.js'
import { type Delayed, undeliverable, unwrap, wrap } from './envelope.js'
import { DUE_QUEUE, LEVELS, levelName, levelPath, levelTime, patternsOf, UNDELIVERABLE_QUEUE } from './levels.js'

/** Due messages that are being delivered at the same time. */
const DUE_PREFETCH = 200
/** Milliseconds between two looks for due messages, where there never were any: each leaves a line in RabbitMQ's log. */
const DUE_POLL_INTERVAL_MS = 60_000
/** Where the broker can't be reached just now. */
const RETRY_CONSUME_MS = 1000
/** After which a message is tried again whose target had no room for it, or could not be asked. */
const POSTPONE_MS = 5000

/** Waits for a confirm of a quorum of nodes, and is dead-lettered with one: no crash loses what waits. */
const QUORUM_ARGUMENTS = { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 }
const LEVEL_ARGUMENTS = { ...QUORUM_ARGUMENTS, 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' }

export class Delays {
  readonly #log: Log
  readonly #metrics: Metrics
  readonly #vhosts: Vhosts
  /** How many levels are known to be there, from the lowest on; -1: not even the queue of what is due. */
  #levels = -1
  #building: Promise<void> = Promise.resolve()
  #channel: DeliveryChannel | undefined
  #timer: NodeJS.Timeout | undefined
  #looking = false
  #delivering = 0
  #closed = false
  #idle: (() => void) | undefined

  constructor(options: { log: Log; metrics: Metrics; vhosts: Vhosts }) {
    this.#log = options.log
    this.#metrics = options.metrics
    this.#vhosts = options.vhosts
    this.#scheduleConsume(0)
  }

  /**
   * Makes of a message the one that is to be published in its place, in the gateway's own vhost, and sees that its way is there.
   * The target is not looked up.
   * @param delay milliseconds, from SHORTEST_DELAY to LONGEST_DELAY
   * @throws Problem broker_unavailable, access_refused…: as a declaration
   */
  async wrap(delayed: Delayed, delay: number): Promise<PublishMessage> {
    const { top, routingKey } = levelPath(delay)
    if (top >= this.#levels) await this.#build(top + 1)
    return wrap(delayed, levelName(top), routingKey)
  }

  /**
   * Publishes a message so that it comes after the delay. Resolves when it is safe.
   * @throws as wrap() and Publisher.publish()
   */
  async publish(delayed: Delayed, delay: number): Promise<void> {
    const message = await this.wrap(delayed, delay)
    if (!(await this.#vhosts.default.publisher.publish(message))) throw this.lost()
  }

  /** Tells that a message found no way in: somebody has deleted it. @returns the problem to answer */
  lost(): Problem {
    this.#levels = -1
    return new Problem('broker_unavailable', 'The queues for delayed messages went away, and are made anew. It was not stored.')
  }

  /** How many messages wait, by queue. Empty where none ever did. */
  async waiting(): Promise<{ queue: string; count: number }[]> {
    if (this.#levels < 0) return []
    const queues = [DUE_QUEUE, UNDELIVERABLE_QUEUE, ...Array.from({ length: this.#levels }, (_, level) => levelName(level))]
    const { topology } = this.#vhosts.default
    const counts = queues.map(async (queue) => ({ queue, count: (await topology.lookUpQueue(queue)).messageCount }))
    return (await Promise.allSettled(counts)).flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  }

  /** Lets no more in, and resolves when what is being delivered has arrived or gone back. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    const channel = this.#channel
    if (!channel) return
    await channel.cancel(DELAY_TAG).catch(() => undefined)
    if (this.#delivering > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
    await channel.close()
  }

  /** Declares what is missing, the lowest first, so that no message finds a level whose next one is not there yet. */
  #build(levels: number): Promise<void> {
    const building = this.#building.then(async () => {
      if (levels <= this.#levels) return
      for (let level = Math.max(0, this.#levels); level < levels; level++) {
        await this.#vhosts.default.topology.setUp('the queues of delayed messages', async (channel) => {
          if (this.#levels < 0) {
            await channel.assertQueue(UNDELIVERABLE_QUEUE, { arguments: QUORUM_ARGUMENTS })
            const onLimit = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': UNDELIVERABLE_QUEUE }
            await channel.assertQueue(DUE_QUEUE, { arguments: { ...LEVEL_ARGUMENTS, ...onLimit } })
          }
          const name = levelName(level)
          const next =
            level === 0
              ? { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': DUE_QUEUE }
              : { 'x-dead-letter-exchange': levelName(level - 1) }
          await channel.assertQueue(name, { arguments: { ...LEVEL_ARGUMENTS, ...next, 'x-message-ttl': levelTime(level) } })
          await channel.assertExchange(name, 'topic', { internal: false })
          const { stay, pass } = patternsOf(level)
          await channel.bindQueue(name, name, stay)
          if (level === 0) await channel.bindQueue(DUE_QUEUE, name, pass)
          else await channel.bindExchange(levelName(level - 1), name, pass)
        })
        this.#levels = level + 1
      }
      this.#scheduleConsume(0)
    })
    this.#building = building.catch(() => undefined)
    return building
  }

  #scheduleConsume(after: number): void {
    if (this.#closed || this.#channel) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#consume(), after)
  }

  async #consume(): Promise<void> {
    if (this.#looking || this.#channel) return
    this.#looking = true
    let channel: DeliveryChannel | undefined
    try {
      ;({ channel } = await this.#vhosts.default.takeReceiveChannel(DUE_QUEUE))
      const of = channel
      channel.onClosed = () => this.#ended(of)
      await channel.consume(DUE_QUEUE, { tag: DELAY_TAG, prefetch: DUE_PREFETCH }, (delivery) => {
        if (delivery) void this.#deliver(delivery)
        else void of.close()
      })
      this.#channel = channel
      if (this.#levels < 0) await this.#explore()
      if (this.#closed) await this.close()
    } catch (error) {
      void channel?.close()
      const problem = channel?.closed ? channel.failure() : error
      // Nobody has made it yet, or the gateway's user has no right to such queues and does without.
      const isMissing = problem instanceof Problem && ['queue_not_found', 'access_refused'].includes(problem.code)
      this.#scheduleConsume(isMissing ? DUE_POLL_INTERVAL_MS : RETRY_CONSUME_MS)
    } finally {
      this.#looking = false
    }
    if (channel?.closed) this.#ended(channel)
  }

  /** Finds the levels that others have made. */
  async #explore(): Promise<void> {
    const { topology } = this.#vhosts.default
    let level = 0
    while (level < LEVELS && (await topology.lookUpQueue(levelName(level)).catch(() => undefined))) level++
    this.#levels = Math.max(this.#levels, level)
  }

  #ended(channel: DeliveryChannel): void {
    if (this.#channel !== channel) return
    this.#channel = undefined
    this.#scheduleConsume(RETRY_CONSUME_MS)
  }

  async #deliver(delivery: Delivery): Promise<void> {
    this.#delivering++
    try {
      await this.#publishDue(delivery)
      delivery.channel.settle(delivery, 'ack')
    } catch (error) {
      // Neither there nor safe elsewhere: it stays due.
      this.#log.warn({ err: error, message_id: delivery.properties.messageId }, 'a delayed message could not be delivered yet')
      await new Promise((resolve) => setTimeout(resolve, RETRY_CONSUME_MS))
      delivery.channel.settle(delivery, 'requeue')
    } finally {
      if (--this.#delivering === 0) this.#idle?.()
    }
  }

  async #publishDue({ properties, body, routingKey }: Delivery): Promise<void> {
    const delayed = unwrap(properties, body, this.#vhosts.username)
    if (!delayed) {
      const message = { exchange: '', routingKey, body, properties: { ...properties, messageId: properties.messageId as string } }
      return this.#park({ vhost: this.#vhosts.defaultName, message }, 'It was no delayed message.')
    }
    const { message } = delayed
    try {
      const vhost = await this.#vhosts.get(delayed.vhost)
      await vhost.ensureExchangeExists(message.exchange)
      if (await vhost.publisher.publish(message)) this.#metrics.delayed('delivered')
      else await this.#park(delayed, message.exchange === '' ? 'There is no such queue.' : 'No queue is bound for it.')
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      const fate = dueFailure(error.code)
      if (fate === 'undeliverable') return this.#park(delayed, error.message)
      if (fate === 'due') throw error
      await this.publish(delayed, POSTPONE_MS)
      this.#metrics.delayed('postponed')
    }
  }

  async #park(delayed: Delayed, reason: string): Promise<void> {
    if (!(await this.#vhosts.default.publisher.publish(undeliverable(delayed, reason)))) {
      this.#levels = -1
      await this.#build(1)
      throw this.lost()
    }
    const { vhost, message } = delayed
    const { exchange, routingKey } = message
    this.#log.warn({ vhost, exchange, routing_key: routingKey, reason }, `a delayed message is kept in ${UNDELIVERABLE_QUEUE}`)
    this.#metrics.delayed('undeliverable')
  }
}

const DELAY_TAG = 'gateway.delay'

/**
 * What becomes of a due message whose publish failed with this problem. postponed: its target does not take it at the moment.
 * undeliverable: neither it nor its target will ever do. due: it stays where it is.
 */
export function dueFailure(code: ProblemCode): 'postponed' | 'undeliverable' | 'due' {
  const { stored, scope } = catalogue[code]
  if (stored === 'unknown' || scope === 'request' || scope === 'gateway') return 'due'
  return isRetryable(code) ? 'postponed' : 'undeliverable'
}
