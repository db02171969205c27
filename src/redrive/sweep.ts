// One go over a queue, on one channel. What is moved is confirmed at its new place before it is acknowledged at the old one.
// What stays is held to the end, so that it is not delivered again and again, and then given back in its order.

import type { Delivery } from '../amqp/consume/delivery.js'
import type { DeliveryChannel } from '../amqp/consume/delivery-channel.js'
import { giveBack } from '../amqp/consume/receive.js'
import type { Vhost } from '../amqp/vhost.js'
import { brokerProblem } from '../amqp/wire/errors.js'
import type { PublishMessage } from '../amqp/wire/message.js'
import { catalogue, isRetryable, Problem, type ProblemCode } from '../problems.js'
import type { Decision } from './decide.js'
import type { RateLimit } from './rate.js'
import type { RedriveCounts } from './task.js'

/** Messages that stay and are held, at most. */
export const MAX_HELD_MESSAGES = 50_000
/** Messages in hand at the same time: at first, and at most, where most of them stay and their bodies are small. */
const FIRST_WINDOW = 100
const MAX_WINDOW = 5000
const WINDOW_BYTES = 8 * 1024 ** 2
/** Milliseconds without a message, after which the queue is asked whether it has any. */
const QUIET_MS = 300
/** Milliseconds until a message is tried again that RabbitMQ took from nobody just now. */
const RETRY_MOVE_MS = 1000
const MAX_AWAKE_MS = 60_000

/** Whether a move that fails with this problem is tried again: the message is not stored, and nothing is wrong with its target. */
export const postponesMove = (code: ProblemCode): boolean =>
  isRetryable(code) && catalogue[code].stored === 'no' && catalogue[code].scope === 'gateway'

export interface SweepOptions {
  vhost: Vhost
  queue: string
  /** Messages that it looks at, at most. */
  look: number
  /** Messages that it moves, at most; in a dry run, that it would. */
  max: number
  dryRun: boolean
  /** In the first window: fewer where it is slow, so that it holds none for long that others could have. */
  window: number
  pace: RateLimit
  /** Milliseconds that it may hold messages. */
  longest: number
  decide: (delivery: Delivery) => Decision
  onMoved: () => void
}

let rounds = 0

export class Sweep implements RedriveCounts {
  moved = 0
  matched = 0
  skipped = 0
  failed = 0
  /** Why the last of those that failed did. */
  failure: Problem | undefined
  /** Why none is moved just now. */
  obstacle: Problem | undefined
  readonly #options: SweepOptions
  #channel!: DeliveryChannel
  #tag = ''
  #prefetch = 0
  /** Delivered and not looked at, in order. */
  #waiting: Delivery[] = []
  #delivered = 0
  #bytes = 0
  #looked = 0
  #underWay = 0
  #held = 0
  /** Of them, those that take up the present consumer's prefetch. */
  #heldOfRound = 0
  #pausedUntil = 0
  #interrupted = false
  #wake: () => void = () => undefined

  constructor(options: SweepOptions) {
    this.#options = options
  }

  /**
   * Goes over the queue. Whatever happens, nothing is held any more when it has ended.
   * @returns whether it is through; else it was interrupted, or there may be more
   * @throws Problem queue_not_found, broker_unavailable…; overloaded: too many stay
   */
  async run(): Promise<boolean> {
    const { channel, brokerVersion } = await this.#options.vhost.takeReceiveChannel(this.#options.queue)
    this.#channel = channel
    channel.onClosed = () => this.#wake()
    try {
      await this.#consume(Math.min(this.#options.window, FIRST_WINDOW, this.#options.max))
      return await this.#work()
    } catch (error) {
      throw channel.closed ? channel.failure() : brokerProblem(error)
    } finally {
      await this.#end(brokerVersion)
    }
  }

  /** Ends it as soon as what is under way has arrived. */
  interrupt(): void {
    this.#interrupted = true
    this.#wake()
  }

  async #work(): Promise<boolean> {
    const { look, max, dryRun, longest, decide, pace } = this.#options
    const end = Date.now() + longest
    for (;;) {
      const now = Date.now()
      if (this.#channel.closed) throw this.#channel.failure()
      if (this.#interrupted || now > end) return false
      if (this.#held > MAX_HELD_MESSAGES)
        throw new Problem('overloaded', `More than ${MAX_HELD_MESSAGES} messages would have to be held that stay.`)
      const taken = dryRun ? this.matched : this.moved + this.#underWay
      if (this.#looked >= look || taken >= max) {
        if (this.#underWay === 0) return true
        await this.#awake(end - now)
        continue
      }
      if (this.#pausedUntil > now) {
        await this.#awake(this.#pausedUntil - now)
        continue
      }
      const [delivery] = this.#waiting
      if (!delivery) {
        if (await this.#isEmpty()) return true
        continue
      }
      const decision = decide(delivery)
      if (decision.kind === 'move' && !dryRun) {
        const wait = pace.wait()
        if (wait > 0) {
          await this.#awake(Math.min(wait, end - now + 1))
          continue
        }
        pace.take()
      }
      this.#waiting.shift()
      this.#looked++
      if (decision.kind !== 'skip') this.matched++
      if (decision.kind === 'skip') this.#skip(delivery)
      else if (decision.kind === 'refuse') this.#fail(delivery, decision.problem)
      else if (dryRun) this.#hold(delivery)
      else void this.#move(delivery, decision.message)
    }
  }

  /** A new consumer has a prefetch of its own: what the ones before it delivered stays held. */
  async #consume(prefetch: number): Promise<void> {
    if (this.#tag) await this.#channel.cancel(this.#tag)
    const { queue, look } = this.#options
    this.#prefetch = Math.max(1, Math.min(prefetch, look - this.#looked - this.#waiting.length))
    this.#heldOfRound = 0
    // RabbitMQ 3 gives back by the order of the tags what several consumers of a channel held.
    this.#tag = `gateway.redrive.${String(++rounds).padStart(9, '0')}`
    await this.#channel.consume(queue, { tag: this.#tag, prefetch: this.#prefetch }, (delivery) => {
      if (delivery) {
        this.#waiting.push(delivery)
        this.#delivered++
        this.#bytes += delivery.body.length
      } else {
        this.#interrupted = true // the queue was deleted, or moves to another node: the next go will tell
      }
      this.#wake()
    })
  }

  /** Whether no more comes, with a wait for it. Where most of the prefetch is held, more is let in. */
  async #isEmpty(): Promise<boolean> {
    if (this.#heldOfRound * 2 >= this.#prefetch) {
      const fits = Math.floor((WINDOW_BYTES * this.#delivered) / Math.max(1, this.#bytes))
      await this.#consume(Math.max(FIRST_WINDOW, Math.min(2 * this.#prefetch, fits, MAX_WINDOW)))
      return false
    }
    const isQuiet = !(await this.#awake(QUIET_MS))
    if (!isQuiet || this.#underWay > 0 || this.#channel.closed || this.#interrupted) return false
    const ready = await this.#channel.messageCount(this.#options.queue)
    return ready === 0 && this.#waiting.length === 0
  }

  async #move(delivery: Delivery, message: PublishMessage): Promise<void> {
    this.#underWay++
    try {
      await this.#publish(message)
      this.obstacle = undefined
      if (this.#channel.settle(delivery, 'ack')) await this.#acknowledged()
    } catch (error) {
      const problem = brokerProblem(error)
      if (postponesMove(problem.code)) this.#postpone(delivery, problem)
      else this.#fail(delivery, problem)
    } finally {
      this.#underWay--
      this.#wake()
    }
  }

  /** @throws Problem where it is not known to be there */
  async #publish(message: PublishMessage): Promise<void> {
    const { vhost } = this.#options
    const { exchange, routingKey } = message
    await vhost.ensureExchangeExists(exchange)
    if (await vhost.publisher.publish(message)) return
    throw exchange === ''
      ? new Problem('queue_not_found', `There is no queue '${routingKey}' in vhost '${vhost.name}'.`)
      : new Problem('unroutable', `No queue is bound to exchange '${exchange}' for a message with the key '${routingKey}'.`)
  }

  /** Where the channel closes first, the message may come again: it is not counted, and a duplicate then. */
  async #acknowledged(): Promise<void> {
    const isKnown = await this.#channel.barrier().then(
      () => true,
      () => false,
    )
    if (!isKnown) return
    this.moved++
    this.#options.onMoved()
  }

  #postpone(delivery: Delivery, problem: Problem): void {
    this.obstacle = problem
    this.#pausedUntil = Date.now() + RETRY_MOVE_MS
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

  async #end(brokerVersion: string): Promise<void> {
    const channel = this.#channel
    if (!channel.closed) await channel.cancel(this.#tag).catch(() => channel.close())
    this.#waiting = []
    while (this.#underWay > 0) await this.#awake(RETRY_MOVE_MS)
    this.#waiting = []
    await giveBack(channel.unsettled(), brokerVersion)
    channel.received()
  }

  /** Waits until something happens, so long at most. @returns whether something did */
  async #awake(milliseconds: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), Math.min(Math.max(0, Math.ceil(milliseconds)), MAX_AWAKE_MS))
      this.#wake = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }
}
