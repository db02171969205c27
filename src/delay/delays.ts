// Delayed messages: their way into the queues where they wait, and out of them to their targets. They all wait in the gateway's
// own vhost, which every instance has open, and every instance delivers what is due.

import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer } from '../amqp/consume/consumer.js'
import type { Delivery } from '../amqp/consume/delivery.js'
import type { Vhosts } from '../amqp/vhosts.js'
import { copyOf } from '../amqp/wire/copy.js'
import type { OutgoingMessage } from '../amqp/wire/message.js'
import { now } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { catalogue, isRetryable, Problem, type ProblemCode } from '../problems.js'
import { declareEnds, declareLevel } from './declare-levels.js'
import { type Delayed, type Due, undeliverable, unwrap, wrap } from './envelope.js'
import { DUE_QUEUE, LEVELS, levelName, levelPath, UNDELIVERABLE_QUEUE } from './levels.js'

/** The most due messages that are delivered at the same time. */
const DUE_PREFETCH = 200
/** By how many bytes headers may grow until a message is at its target, or in the queue of undeliverable messages. */
const GROWTH_OF_HEADERS = 2048
/** Between looks for the queue of due messages if it does not exist: each look leaves a line in RabbitMQ's log. */
const DUE_POLL_INTERVAL_MS = 60_000
/** Between attempts if the broker cannot be reached. */
const RETRY_CONSUME_MS = 1000
/** After this time a message is tried again whose target had no room for it. */
const POSTPONE_MS = 5000
/** Waiting messages are counted this often while delays are in use, and sooner after a change. */
const COUNT_INTERVAL_MS = 10_000
const COUNT_TICK_MS = 1000

/** Messages that wait in one queue. */
export interface WaitingCount {
  queue: string
  count: number
}

/** Publishes delayed messages, and delivers those that are due. */
export class Delays {
  readonly #log: Log
  readonly #metrics: Metrics
  readonly #vhosts: Vhosts
  /** How many levels are known to exist, from the lowest; -1 if not even the queue of due messages is. */
  #levels = -1
  #building: Promise<void> = Promise.resolve()
  #consumer: Consumer | undefined
  #timer: NodeJS.Timeout | undefined
  #starting = false
  #delivering = 0
  #closed = false
  #idle: (() => void) | undefined
  #waiting: WaitingCount[] = []
  #countedAt = Number.NEGATIVE_INFINITY
  #hasChanged = false
  #counting = false
  readonly #countTicks: NodeJS.Timeout

  constructor(options: { log: Log; metrics: Metrics; vhosts: Vhosts }) {
    this.#log = options.log
    this.#metrics = options.metrics
    this.#vhosts = options.vhosts
    this.#countTicks = setInterval(() => void this.#count(), COUNT_TICK_MS)
    this.#scheduleConsume(0)
  }

  /**
   * Publishes a message that reaches its target after the delay. Resolves when RabbitMQ has confirmed it. The target is not
   * looked up.
   * @param delay milliseconds, from MIN_DELAY_MS to MAX_DELAY_MS
   * @throws Problem broker_unavailable, broker_blocked, access_refused, overloaded, publish_rejected: not stored;
   *   publish_outcome_unknown, broker_timeout: unknown
   */
  async publish(delayed: Delayed, delay: number): Promise<void> {
    const message = await this.#wrap(delayed, delay)
    if (!(await this.#vhosts.default.publisher.publish(message))) throw this.#queuesLost()
  }

  /**
   * Publishes a delayed message and does not wait for its confirm.
   * @throws Problem the codes of `publish()` that mean "not stored"
   */
  async publishUnconfirmed(delayed: Delayed, delay: number): Promise<void> {
    await this.#vhosts.default.publisher.publishUnconfirmed(await this.#wrap(delayed, delay))
  }

  /**
   * For callers that publish many delayed messages: waits until there is room, and resolves once the message is written.
   * @param wanted asked before the message is written; false gives it up
   * @returns the promise of `publish()`
   * @throws Problem overloaded: it was given up; and the codes of `publish()` that mean "not stored"
   */
  async publishWhenRoom(delayed: Delayed, delay: number, wanted: () => boolean): Promise<{ confirmed: Promise<boolean> }> {
    const { confirmed } = await this.#vhosts.default.publisher.publishWhenRoom(await this.#wrap(delayed, delay), wanted)
    const safe = confirmed.then((routed) => {
      if (routed) return true
      throw this.#queuesLost()
    })
    return { confirmed: safe }
  }

  /** How many messages wait, by queue, as counted within the last seconds. Empty if delays were never used. */
  get waiting(): readonly WaitingCount[] {
    return this.#waiting
  }

  /** Stops consuming. Resolves when the messages that are being delivered have arrived or gone back. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    clearInterval(this.#countTicks)
    const consumer = this.#consumer
    if (!consumer) return
    await consumer.cancel()
    if (this.#delivering > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
    await consumer.close()
  }

  /** The message to publish in place of a delayed one, after its way through the levels is declared. */
  async #wrap(delayed: Delayed, delay: number): Promise<OutgoingMessage> {
    const { publisher } = this.#vhosts.default
    await publisher.ready()
    const size = delayed.message.encoded?.length ?? 0
    if (size > publisher.connection.maxPropertiesSize - GROWTH_OF_HEADERS) {
      throw new Problem('invalid_message', 'The headers of the message are too large to be published again.')
    }
    const { top, routingKey } = levelPath(delay)
    if (top >= this.#levels) await this.#declareLevels(top + 1)
    this.#hasChanged = true
    return wrap(delayed, levelName(top), routingKey)
  }

  /** A delayed message found no queue: somebody has deleted them. */
  #queuesLost(): Problem {
    this.#levels = -1
    const detail = 'The queues of delayed messages were deleted, and are declared again. The message was not stored.'
    return new Problem('broker_unavailable', detail)
  }

  /** Declares missing levels, the lowest first, so that no message reaches a level whose next one does not exist yet. */
  #declareLevels(levels: number): Promise<void> {
    const building = this.#building.then(async () => {
      if (levels <= this.#levels) return
      for (let level = Math.max(0, this.#levels); level < levels; level++) {
        await this.#vhosts.default.topology.setUp('the queues of delayed messages', async (channel) => {
          if (this.#levels < 0) await declareEnds(channel)
          await declareLevel(channel, level)
        })
        this.#levels = level + 1
      }
      this.#scheduleConsume(0)
    })
    this.#building = building.catch(() => undefined)
    return building
  }

  /** Counts what waits, on one channel, so that no scrape of the metrics has to ask RabbitMQ. */
  async #count(): Promise<void> {
    const isDue = this.#hasChanged || now() - this.#countedAt >= COUNT_INTERVAL_MS
    if (this.#levels < 0 || !isDue || this.#counting) return
    this.#counting = true
    this.#hasChanged = false
    const queues = [DUE_QUEUE, UNDELIVERABLE_QUEUE, ...Array.from({ length: this.#levels }, (_, level) => levelName(level))]
    try {
      const counts: WaitingCount[] = []
      await this.#vhosts.default.topology.setUp('the counts of delayed messages', async (channel) => {
        for (const queue of queues) counts.push({ queue, count: (await channel.checkQueue(queue)).messageCount })
      })
      this.#waiting = counts
    } catch (error) {
      this.#log.debug({ err: error }, 'delayed messages could not be counted')
    } finally {
      this.#countedAt = now()
      this.#counting = false
    }
  }

  #scheduleConsume(after: number): void {
    if (this.#closed || this.#consumer) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#consume(), after)
  }

  async #consume(): Promise<void> {
    if (this.#starting || this.#consumer) return
    this.#starting = true
    let consumer: Consumer | undefined
    try {
      consumer = await Consumer.start(await this.#vhosts.default.takeReceiveChannel(DUE_QUEUE), {
        queue: DUE_QUEUE,
        tag: DELAY_TAG,
        prefetch: DUE_PREFETCH,
        onDelivery: (delivery) => void this.#deliver(delivery),
        onEnd: () => this.#ended(consumer),
      })
      this.#consumer = consumer
      if (this.#levels < 0) await this.#findLevels()
      if (this.#closed) await this.close()
    } catch (error) {
      // Nobody has used delays yet, or the gateway's user may not have such queues.
      const isMissing = error instanceof Problem && ['queue_not_found', 'access_refused'].includes(error.code)
      this.#scheduleConsume(isMissing ? DUE_POLL_INTERVAL_MS : RETRY_CONSUME_MS)
    } finally {
      this.#starting = false
    }
    if (consumer?.ended) this.#ended(consumer)
  }

  /** Finds the levels that other instances have declared. */
  async #findLevels(): Promise<void> {
    const { topology } = this.#vhosts.default
    let level = 0
    while (level < LEVELS && (await topology.lookUpQueue(levelName(level)).catch(() => undefined))) level++
    this.#levels = Math.max(this.#levels, level)
  }

  #ended(consumer: Consumer | undefined): void {
    if (!consumer || this.#consumer !== consumer || this.#closed) return
    this.#consumer = undefined
    void consumer.close()
    this.#scheduleConsume(RETRY_CONSUME_MS)
  }

  async #deliver(delivery: Delivery): Promise<void> {
    this.#delivering++
    try {
      await this.#publishDue(delivery)
      delivery.channel.settle(delivery, 'ack')
    } catch (error) {
      // It is neither at its target nor safe elsewhere, so it stays due.
      this.#log.warn({ err: error, message_id: delivery.properties.messageId }, 'delayed message could not be delivered')
      await sleep(RETRY_CONSUME_MS)
      delivery.channel.settle(delivery, 'requeue')
    } finally {
      this.#hasChanged = true
      if (--this.#delivering === 0) this.#idle?.()
    }
  }

  async #publishDue(delivery: Delivery): Promise<void> {
    const delayed = unwrap(delivery, this.#vhosts.username)
    if (!delayed) {
      const message = copyOf(delivery, { username: this.#vhosts.username })
      return this.#park({ vhost: this.#vhosts.defaultName, message }, 'It is not a delayed message.')
    }
    const { queue, message } = delayed
    try {
      if (await this.#publishNow(delayed)) this.#metrics.delayed('delivered')
      else {
        const toQueue = queue !== undefined || message.exchange === ''
        await this.#park(delayed, toQueue ? 'The queue does not exist.' : 'No queue is bound for it.')
      }
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      const fate = dueFailure(error.code)
      if (fate === 'undeliverable') return this.#park(delayed, error.message)
      // Another vhost may be down or at a limit for long: messages for the rest need not wait behind it.
      const isElsewhere = error.code === 'broker_unavailable' && delayed.vhost !== this.#vhosts.defaultName
      if (fate === 'due' && !isElsewhere) throw error
      await this.publish(delayed, POSTPONE_MS)
      this.#metrics.delayed('postponed')
    }
  }

  /** @returns whether a queue took it. @throws Problem */
  async #publishNow({ vhost: name, queue, message }: Due): Promise<boolean> {
    const vhost = await this.#vhosts.get(name)
    if (queue !== undefined) return vhost.copies.publish(queue, message)
    await vhost.ensureExchangeExists(message.exchange)
    return vhost.publisher.publish(message)
  }

  /** Keeps a message that has no target in the queue of undeliverable messages, with the reason. */
  async #park(delayed: Due, reason: string): Promise<void> {
    if (!(await this.#vhosts.default.publisher.publish(undeliverable(delayed, reason)))) {
      this.#levels = -1
      await this.#declareLevels(1)
      throw this.#queuesLost()
    }
    const { vhost, message } = delayed
    const { exchange, routingKey } = message
    this.#log.warn({ vhost, exchange, routing_key: routingKey, reason }, `delayed message moved to ${UNDELIVERABLE_QUEUE}`)
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
