// One sweep over a queue, on one channel. A message is moved by a confirmed publish, and acknowledged after that. Messages that
// stay are held to the end, so that they are not delivered again and again, and then given back in order.

import { Consumer } from '../amqp/consume/consumer.js'
import type { Delivery } from '../amqp/consume/delivery.js'
import type { Vhost } from '../amqp/vhost.js'
import { brokerProblem, unroutedProblem } from '../amqp/wire/errors.js'
import { now } from '../lib/clock.js'
import { Pause } from '../lib/pause.js'
import { catalogue, isRetryable, Problem, type ProblemCode } from '../problems.js'
import type { Decision, Move } from './decide.js'
import type { RateLimit } from './rate.js'
import type { RedriveCounts } from './task.js'

/** The most messages that stay and are held. */
const MAX_HELD_MESSAGES = 50_000
/** Messages in hand at a time: at first, and at most, if most of them stay and their bodies are small. */
const FIRST_WINDOW = 100
const MAX_WINDOW = 5000
const WINDOW_BYTES = 8 * 1024 ** 2
/** After this time without a message the queue is asked whether it is empty. */
const QUIET_MS = 300
/** When to try a message again that RabbitMQ could not take. */
const RETRY_MOVE_MS = 1000
const MAX_PAUSE_MS = 60_000

/** Whether a move that fails with this problem is tried again: the message is not stored, and its target is not at fault. */
export const postponesMove = (code: ProblemCode): boolean =>
  isRetryable(code) && catalogue[code].stored === 'no' && catalogue[code].scope === 'gateway'

export interface SweepOptions {
  vhost: Vhost
  queue: string
  /** The most messages to look at. */
  look: number
  /** The most messages to move; in a dry run, to match. */
  max: number
  dryRun: boolean
  /** Messages in the first window: fewer with a low rate, so that none is held for long that other consumers could have. */
  window: number
  rateLimit: RateLimit
  /** The most milliseconds that messages may be held. */
  longest: number
  decide: (delivery: Delivery) => Decision
  onMoved: () => void
}

let rounds = 0

/** RabbitMQ 3 gives back what several consumers of a channel held in the order of their tags. */
const nextTag = (): string => `gateway.redrive.${String(++rounds).padStart(9, '0')}`

/** Looks at each message of a queue once, and moves those that are meant. */
export class Sweep implements RedriveCounts {
  moved = 0
  matched = 0
  skipped = 0
  failed = 0
  /** Why the last message that could not be moved could not. */
  failure: Problem | undefined
  /** Why no message can be moved at the moment. */
  obstacle: Problem | undefined
  readonly #options: SweepOptions
  #prefetch = 0
  /** Delivered and not looked at, in order. */
  #waiting: Delivery[] = []
  #delivered = 0
  #bytes = 0
  #looked = 0
  #underWay = 0
  #held = 0
  /** Held messages that use up the prefetch of the present consumer. */
  #heldOfRound = 0
  #pausedUntil = 0
  #interrupted = false
  readonly #pause = new Pause()

  constructor(options: SweepOptions) {
    this.#options = options
  }

  /**
   * Sweeps the queue. Nothing is held any more when it has ended, however it ended.
   * @returns whether it is through; false if it was interrupted, or there may be more messages
   * @throws Problem queue_not_found, broker_unavailable, broker_timeout…; overloaded: too many messages stay
   */
  async run(): Promise<boolean> {
    const { vhost, queue, window, max } = this.#options
    const place = await vhost.takeReceiveChannel(queue)
    const prefetch = this.#startRound(Math.min(window, FIRST_WINDOW, max))
    const consumer = await Consumer.start(place, {
      queue,
      tag: nextTag(),
      prefetch,
      onDelivery: (delivery) => {
        this.#waiting.push(delivery)
        this.#delivered++
        this.#bytes += delivery.body.length
        this.#pause.end()
      },
      // The queue was deleted or moves to another node, or the channel is lost: the next sweep tells.
      onEnd: () => this.interrupt(),
    })
    try {
      return await this.#work(consumer)
    } catch (error) {
      throw consumer.channel.closed ? consumer.channel.failure() : brokerProblem(error)
    } finally {
      await this.#end(consumer)
    }
  }

  /** Ends it as soon as the messages that are being moved have arrived. */
  interrupt(): void {
    this.#interrupted = true
    this.#pause.end()
  }

  async #work(consumer: Consumer): Promise<boolean> {
    const { look, max, dryRun, longest, decide, rateLimit } = this.#options
    const end = now() + longest
    for (;;) {
      const time = now()
      if (consumer.channel.closed) throw consumer.channel.failure()
      if (this.#interrupted || time > end) return false
      if (this.#held > MAX_HELD_MESSAGES)
        throw new Problem('overloaded', `More than ${MAX_HELD_MESSAGES} messages do not match, and would have to be held.`)
      const taken = dryRun ? this.matched : this.moved + this.#underWay
      if (this.#looked >= look || taken >= max) {
        if (this.#underWay === 0) return true
        await this.#sleep(end - time)
        continue
      }
      if (this.#pausedUntil > time) {
        await this.#sleep(this.#pausedUntil - time)
        continue
      }
      const [delivery] = this.#waiting
      if (!delivery) {
        if (await this.#isEmpty(consumer)) return true
        continue
      }
      const decision = decide(delivery)
      if (decision.kind === 'move' && !dryRun) {
        const wait = rateLimit.wait()
        if (wait > 0) {
          await this.#sleep(Math.min(wait, end - time + 1))
          continue
        }
        rateLimit.take()
      }
      this.#waiting.shift()
      this.#looked++
      if (decision.kind !== 'skip') this.matched++
      if (decision.kind === 'skip') this.#skip(delivery)
      else if (decision.kind === 'refuse') this.#fail(delivery, decision.problem)
      else if (dryRun) this.#hold(delivery)
      else void this.#move(consumer, delivery, decision)
    }
  }

  /** The prefetch of the next consumer, which counts from zero. Earlier deliveries stay held. */
  #startRound(wanted: number): number {
    this.#prefetch = Math.max(1, Math.min(wanted, this.#options.look - this.#looked - this.#waiting.length))
    this.#heldOfRound = 0
    return this.#prefetch
  }

  /** Waits for messages. Whether none is left; lets more in if most of the prefetch is held. */
  async #isEmpty(consumer: Consumer): Promise<boolean> {
    if (this.#heldOfRound * 2 >= this.#prefetch) {
      const fits = Math.floor((WINDOW_BYTES * this.#delivered) / Math.max(1, this.#bytes))
      const wanted = Math.max(FIRST_WINDOW, Math.min(2 * this.#prefetch, fits, MAX_WINDOW))
      await consumer.restart(nextTag(), () => this.#startRound(wanted))
      return false
    }
    const isQuiet = !(await this.#sleep(QUIET_MS))
    if (!isQuiet || this.#underWay > 0 || consumer.channel.closed || this.#interrupted) return false
    const ready = await consumer.channel.messageCount(this.#options.queue)
    return ready === 0 && this.#waiting.length === 0
  }

  async #move(consumer: Consumer, delivery: Delivery, move: Move): Promise<void> {
    this.#underWay++
    try {
      await this.#publish(move)
      this.obstacle = undefined
      if (consumer.channel.settle(delivery, 'ack')) await this.#acknowledged(consumer)
    } catch (error) {
      const problem = brokerProblem(error)
      if (postponesMove(problem.code)) this.#postpone(delivery, problem)
      else this.#fail(delivery, problem)
    } finally {
      this.#underWay--
      this.#pause.end()
    }
  }

  /** @throws Problem if it is not known to have arrived */
  async #publish({ queue, message }: Move): Promise<void> {
    const { vhost } = this.#options
    if (queue !== undefined) {
      if (await vhost.copies.publish(queue, message)) return
      throw unroutedProblem({ exchange: '', routingKey: queue }, vhost.name)
    }
    await vhost.ensureExchangeExists(message.exchange)
    if (!(await vhost.publisher.publish(message))) throw unroutedProblem(message, vhost.name)
  }

  /** If the channel closes first, the message may come again, as a duplicate: it is not counted. */
  async #acknowledged(consumer: Consumer): Promise<void> {
    const isKnown = await consumer.channel.barrier().then(
      () => true,
      () => false,
    )
    if (!isKnown) return
    this.moved++
    this.#options.onMoved()
  }

  #postpone(delivery: Delivery, problem: Problem): void {
    this.obstacle = problem
    this.#pausedUntil = now() + RETRY_MOVE_MS
    this.#looked--
    this.matched--
    this.#waiting.push(delivery)
    this.#waiting.sort((a, b) => a.tag - b.tag)
  }

  #skip(delivery: Delivery): void {
    this.skipped++
    this.#hold(delivery)
  }

  #fail(delivery: Delivery, problem: Problem): void {
    this.failed++
    this.failure = problem
    this.#hold(delivery)
  }

  #hold(delivery: Delivery): void {
    delivery.empty()
    this.#held++
    this.#heldOfRound++
  }

  async #end(consumer: Consumer): Promise<void> {
    await consumer.cancel()
    while (this.#underWay > 0) await this.#sleep(RETRY_MOVE_MS)
    this.#waiting = []
    await consumer.release()
  }

  /** Waits until something happens, at most for a time in milliseconds. @returns whether something did */
  #sleep(milliseconds: number): Promise<boolean> {
    return this.#pause.take(Math.min(Math.max(0, Math.ceil(milliseconds)), MAX_PAUSE_MS))
  }
}
